"""Random draws in float32 and int32, the same ones whether or not `jax_enable_x64` is set."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def uniform(key: jax.Array, shape: Sequence[int] = (), minval=0.0, maxval=1.0) -> jax.Array:
    """Draw uniform numbers from [minval, maxval)."""
    minval, maxval = (jnp.asarray(bound, jnp.float32) for bound in (minval, maxval))
    return jax.random.uniform(key, shape, jnp.float32, minval, maxval)


def normal(key: jax.Array, shape: Sequence[int] = ()) -> jax.Array:
    """Draw normal numbers of variance 1."""
    return jax.random.normal(key, shape, jnp.float32)


def exponential(key: jax.Array, shape: Sequence[int] = ()) -> jax.Array:
    """Draw exponential numbers of mean 1."""
    return jax.random.exponential(key, shape, jnp.float32)


def signs(key: jax.Array, shape: Sequence[int] = ()) -> jax.Array:
    """Draw -1 or 1."""
    return jnp.where(coin(key, 0.5, shape), jnp.float32(1), jnp.float32(-1))


def coin(key: jax.Array, probability=0.5, shape: Sequence[int] = ()) -> jax.Array:
    """Draw True with a probability."""
    return uniform(key, shape) < jnp.asarray(probability, jnp.float32)


def integers(key: jax.Array, minval, maxval) -> jax.Array:
    """Draw an integer from minval to maxval - 1."""
    return jax.random.randint(key, (), minval, maxval, jnp.int32)
