"""Pytrees whose leaves have rows."""

from typing import Any

import jax
import jax.numpy as jnp


def tree_where(condition: jax.Array, yes: Any, no: Any) -> Any:
    """Choose the rows of one pytree or of the other.

    Args:
      condition: bool, (n,) or a scalar; it is broadcast over the trailing axes of every leaf.
      yes: pytree of arrays (n, ...), random keys included.
      no: pytree of the same structure and types.

    Returns:
      A pytree with the rows of `yes` where `condition` holds, and those of `no` elsewhere.
    """

    def leaf(y, n):
        if jax.dtypes.issubdtype(n.dtype, jax.dtypes.prng_key):
            data = leaf(jax.random.key_data(y), jax.random.key_data(n))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(n))
        return jnp.where(condition.reshape(*condition.shape, *[1] * (n.ndim - condition.ndim)), y, n)

    return jax.tree.map(leaf, yes, no)


def strong_types(tree: Any) -> Any:
    """Drop the weak types of a pytree's leaves: a loop's state must keep its type from the first turn on."""

    def leaf(x):
        return jax.lax.convert_element_type(x, x.dtype) if getattr(x, "weak_type", False) else x

    return jax.tree.map(leaf, tree)
