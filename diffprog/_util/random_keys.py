"""Random keys as people give them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.numbers import whole_number

IMPLEMENTATION = "threefry2x32"  # mapped over rows, it draws for each what it draws for one alone; others need not


def random_key(key: Any) -> jax.Array:
    """Read a random key, and make it one whose draws for a row do not depend on the other rows.

    Args:
      key: A key of any kind, typed or of raw numbers, or a whole number for a seed.

    Returns:
      A typed key: the given one if it is of `IMPLEMENTATION`, else one that is drawn from it.

    Raises:
      ValueError: It is something else, or several keys.
    """
    seed = None if key is None or isinstance(key, str) or np.ndim(key) else whole_number(key)
    if seed is not None:
        return jax.random.key(seed, impl=IMPLEMENTATION)
    dtype = getattr(key, "dtype", None)
    if dtype == jnp.uint32 and key.shape in ((2,), (4,)):
        key = jax.random.wrap_key_data(jnp.asarray(key), impl=IMPLEMENTATION if key.shape == (2,) else "rbg")
    elif dtype is None or not jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) or key.shape:
        raise ValueError(f"key must be one random key, as jax.random.key(0), or a seed; found {key!s:.60}")
    if str(jax.random.key_impl(key)) == IMPLEMENTATION:
        return key
    return jax.random.wrap_key_data(jax.random.bits(key, (2,), jnp.uint32), impl=IMPLEMENTATION)
