"""Whose gradients: those of diffprog's own tracer, or JAX's for comparison."""

from collections.abc import Callable

import jax

from diffprog._transforms import reverse

ENGINES = ("diffprog", "jax")


def value_and_grad(engine: str = "diffprog") -> Callable[..., Callable]:
    """Return the transform `value_and_grad` of an engine.

    Args:
      engine: "diffprog" or "jax".

    Returns:
      A function with the signature of `jax.value_and_grad`.

    Raises:
      ValueError: the engine is not one of `ENGINES`.
    """
    return _transforms(engine).value_and_grad


def vjp(engine: str = "diffprog") -> Callable:
    """Return the transform `vjp` of an engine.

    Args:
      engine: "diffprog" or "jax".

    Returns:
      A function with the signature of `jax.vjp`.

    Raises:
      ValueError: the engine is not one of `ENGINES`.
    """
    return _transforms(engine).vjp


def _transforms(engine):
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} is not known; use one of {', '.join(map(repr, ENGINES))}")
    return reverse if engine == "diffprog" else jax
