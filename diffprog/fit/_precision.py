"""Losses computed in half precision, with parameters, gradients and sums that stay in single."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffprog.optimize import value_and_grad

FIRST_SCALE, LOWER = (
    2.0**15,
    2.0**-4,
)  # the largest power of 2 in float16; what the next attempt's scale is multiplied by
DTYPES = ("bfloat16", "float16")
WIDE = (jnp.dtype(jnp.float32), jnp.dtype(jnp.float64))


def in_precision(loss: Callable, dtype: str) -> Callable:
    """Make a loss compute in half precision.

    Args:
      loss: `loss(parameters, batch, ...)`, which returns a value, or (value, anything).
      dtype: "bfloat16" or "float16".

    Returns:
      A function of the same arguments. Floats of the first two are rounded to `dtype` on the way in, and those that it
      returns are float32.

    Raises:
      ValueError: `dtype` is another one.
    """
    if dtype not in DTYPES:
        raise ValueError(f"precision must be one of {', '.join(DTYPES)}, or None; found {dtype!r}")
    half = jnp.dtype(dtype)

    @functools.wraps(loss)
    def rounded_loss(parameters, batch, *rest, **options):
        result = loss(_cast(parameters, WIDE, half), _cast(batch, WIDE, half), *rest, **options)
        return _cast(result, (half,), jnp.float32)

    return rounded_loss


def scaled_value_and_grad(engine: str) -> Callable:
    """Make a `value_and_grad` whose backward pass does not leave float16's range.

    The loss is multiplied by 2^15, so that small cotangents do not vanish, and the gradient divided by it. Where that
    overflows, the backward pass is run again with a smaller scale. So a step depends on its parameters alone: no scale
    is carried along, and none is skipped.

    Args:
      engine: whose gradients, "diffprog" or "jax".

    Returns:
      A transform with the signature of `jax.value_and_grad`.

    References:
      P. Micikevicius, S. Narang, J. Alben, G. Diamos et al., "Mixed precision training", ICLR 2018, section 3.2.
    """

    def transform(objective, has_aux=False):
        def attempt(parameters, rest, scale):
            def scaled(parameters):
                value, aux = objective(parameters, *rest) if has_aux else (objective(parameters, *rest), None)
                return value * scale.astype(value.dtype), (value, aux)

            (_, measured), gradient = value_and_grad(engine)(scaled, has_aux=True)(parameters)
            return measured, jax.tree.map(lambda leaf: leaf / scale.astype(leaf.dtype), gradient)

        def differentiated(parameters, *rest):
            scale = jnp.float32(FIRST_SCALE)

            def overflows(carry):
                scale, (value, _), gradient = carry
                finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient)]).all()
                return ~finite & jnp.isfinite(value) & (scale > 1)

            def again(carry):
                scale = jnp.maximum(carry[0] * LOWER, 1)
                return scale, *attempt(parameters, rest, scale)

            _, (value, aux), gradient = jax.lax.while_loop(overflows, again, (scale, *attempt(parameters, rest, scale)))
            return (value, aux) if has_aux else value, gradient

        return differentiated

    return transform


def _cast(tree: Any, wanted: tuple, dtype: Any) -> Any:
    """Convert the arrays of the wanted types."""
    return jax.tree.map(lambda x: x.astype(dtype) if isinstance(x, jax.Array) and x.dtype in wanted else x, tree)
