"""Whose gradients: diffprog's own tracer, or JAX's for comparison."""

from collections.abc import Callable

ENGINES = ("diffprog", "jax")


def value_and_grad(engine: str = "diffprog") -> Callable:
    """The `value_and_grad` transform of `engine`; both have the signature of `jax.value_and_grad`.

    Raises ValueError on a name that is not in `ENGINES`.
    """
    return _transforms(engine).value_and_grad


def vjp(engine: str = "diffprog") -> Callable:
    """The `vjp` transform of `engine`, likewise."""
    return _transforms(engine).vjp


def _transforms(engine):
    if engine == "diffprog":
        from diffprog._transforms import reverse as transforms
    elif engine == "jax":
        import jax as transforms
    else:
        raise ValueError(f"engine {engine!r} is not known; use one of {', '.join(map(repr, ENGINES))}")
    return transforms
