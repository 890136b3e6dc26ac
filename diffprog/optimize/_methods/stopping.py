"""When a search by second derivatives is over: tests that hold in every type of number."""

import jax
import jax.numpy as jnp

GRADIENT_PART = 0.75  # the power of the rounding error at which a gradient counts as 0, as a part of the first one
LEAST_GRADIENT_PART = 0.9  # the same, whatever the model promises
SHORT_PART = 0.6  # the power of the rounding error at which a step is too short to matter, as a part of the parameters
ROUNDINGS = 100  # of the value's last digit, that rounding inside the function may change


def is_flat(gradient: jax.Array, first: jax.Array, value: jax.Array, promised: jax.Array) -> jax.Array:
    """Tell whether a gradient is as good as 0: by its size, or by its size and by what a model promises.

    Args:
      gradient: (n,).
      first: its largest element at the start.
      value: of the function.
      promised: the decrease that the quadratic model promises.

    Returns:
      Whether it is.
    """
    eps = jnp.finfo(value.dtype).eps
    size = jnp.max(jnp.abs(gradient))
    is_small = (size <= eps**GRADIENT_PART * first) & (promised <= eps**0.5 * jnp.abs(value))
    return is_small | (size <= eps**LEAST_GRADIENT_PART * first)


def is_short(step: jax.Array, point: jax.Array) -> jax.Array:
    """Tell whether a step changes no parameter in the digits that count."""
    eps = jnp.finfo(step.dtype).eps
    is_short = jnp.all(jnp.abs(step) <= eps**SHORT_PART * jnp.abs(point))
    return is_short | (jnp.linalg.norm(step) <= eps * jnp.linalg.norm(point))


def rounding_of(value: jax.Array, gradient: jax.Array, point: jax.Array) -> jax.Array:
    """Estimate what rounding may change of a value: of its own digits, and of the parameters' through the gradient."""
    size = jnp.abs(value) + jnp.vdot(jnp.abs(gradient), jnp.abs(point))
    return ROUNDINGS * jnp.finfo(value.dtype).eps * size
