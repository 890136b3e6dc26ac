"""Whose gradients: diffprog's own tracer, or JAX's for comparison."""

from collections.abc import Callable

ENGINES = ("diffprog", "jax")


def value_and_grad(engine: str = "diffprog") -> Callable:
    """The `value_and_grad` transform of `engine`; both have the signature of `jax.value_and_grad`.

    Raises ValueError on a name that is not in `ENGINES`.
    """
    if engine == "diffprog":
        from diffprog.transforms.reverse import value_and_grad as transform
    elif engine == "jax":
        from jax import value_and_grad as transform
    else:
        raise ValueError(f"engine {engine!r} is not known; use one of {', '.join(map(repr, ENGINES))}")
    return transform
