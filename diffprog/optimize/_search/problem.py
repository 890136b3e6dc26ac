"""From a user's function, parameters and bounds to an `Oracle` over vectors."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffprog._transforms.closures import lift
from diffprog._util.promotion import callers_promotion
from diffprog.optimize._search.flat import Unflatten, flatten
from diffprog.optimize._search.oracle import Oracle
from diffprog.optimize._trainable import split


def prepare(
    function: Callable[[Any], Any], parameters: Any, bounds: Any, engine: str, gives_residuals: bool
) -> tuple[Oracle, jax.Array, Unflatten]:
    """Read the arguments of `minimize` and `least_squares`.

    Returns:
      The oracle, the start as a vector, and the function from vectors to parameters.

    Raises:
      ValueError: parameters, bounds or results that cannot be used.
    """
    vector, unflatten = flatten(parameters)

    def of_vector(vector):
        result = function(unflatten(vector))
        return _residual_vector(result) if gives_residuals else _scalar(result)

    with callers_promotion():
        program = lift(of_vector, vector)
    lower, upper = _box(bounds, parameters, vector)
    return Oracle(program, lower, upper, gives_residuals, bounds is not None, engine), vector, unflatten


def _scalar(result):
    shape, dtype = _shape(result, "function"), jnp.result_type(result)
    if shape or jnp.issubdtype(dtype, jnp.complexfloating):
        raise ValueError(
            f"function must return one real number; found {dtype}{list(shape)}: sum it up, or call least_squares with "
            "what is to be small"
        )
    return result


def _residual_vector(result):
    if not jax.tree.leaves(result):
        raise ValueError("residuals must return arrays; found an empty pytree: return what is to be small")
    return flatten(jax.tree.map(jnp.asarray, result))[0]


def _shape(result, name):
    if not jax.tree_util.all_leaves([result]):
        raise ValueError(f"{name} must return a number; found {type(result).__name__}: leave what else it returns out")
    return jnp.shape(result)


def _box(bounds: Any, parameters: Any, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    if bounds is None:
        return jnp.full_like(vector, -jnp.inf), jnp.full_like(vector, jnp.inf)
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):  # SciPy's
        bounds = (bounds.lb, bounds.ub)
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(
            f"bounds must be a pair (lower, upper), each a number or shaped like the parameters; found {bounds!r:.80}: "
            "for pairs per parameter, write (lower, upper) with two arrays"
        )
    trainable, _ = split(parameters)
    lower, upper = (
        _bound(bound, trainable, nothing).astype(vector.dtype)
        for bound, nothing in zip(bounds, (-jnp.inf, jnp.inf), strict=True)
    )
    if not isinstance(lower, jax.core.Tracer) and not isinstance(upper, jax.core.Tracer):
        if not bool(jnp.all(lower <= upper)):
            raise ValueError("bounds must have lower <= upper everywhere, without NaN: exchange or mend them")
    return lower, upper


def _bound(bound, trainable, nothing):
    if any(jnp.issubdtype(x.dtype, jnp.complexfloating) for x in jax.tree.leaves(trainable)):
        raise ValueError("bounds must be of real parameters; found complex ones: bound real and imaginary parts apart")
    try:
        full = jax.tree.broadcast(nothing if bound is None else bound, trainable, is_leaf=lambda x: x is None)
        parts = jax.tree.map(
            lambda b, x: jnp.broadcast_to(jnp.asarray(nothing if b is None else b, x.dtype), x.shape),
            full,
            trainable,
            is_leaf=lambda x: x is None,
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"a bound must be a number or shaped like the parameters; found {bound!r:.80}") from error
    return flatten(parts)[0]
