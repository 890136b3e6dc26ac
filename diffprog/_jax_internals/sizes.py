"""Sizes of arrays, which may be symbols in a program exported for any size (`jax.export.symbolic_shape`).

Symbols add, multiply and compare for equality as integers do. What else a size is asked for stands here.
"""

from collections.abc import Iterable

import jax.numpy as jnp
from jax import lax
from jax._src.core import is_symbolic_dim, min_dim

__all__ = ["are_known", "are_sizes", "extent", "may_exceed", "min_dim", "square_root"]


def are_known(sizes: Iterable) -> bool:
    """Whether all sizes are integers."""
    return all(isinstance(n, int) for n in sizes)


def are_sizes(values: Iterable) -> bool:
    """Whether all values are integers or symbols, and none is an array."""
    return all(isinstance(n, int) or is_symbolic_dim(n) for n in values)


def may_exceed(size, other) -> bool:
    """Whether one size is larger than another; of symbols whether they differ."""
    return size > other if are_known([size, other]) else size != other


def extent(sizes: Iterable, steps: Iterable) -> list:
    """Compute how far so many elements reach that lie so far apart, per axis."""
    return [0 if n == 0 else (n - 1) * step + 1 for n, step in zip(sizes, steps, strict=True)]


def square_root(size, dtype):
    """Compute the square root of a size in this dtype."""
    if isinstance(size, int):
        return jnp.asarray(size**0.5, dtype)
    return lax.sqrt(jnp.asarray(size).astype(dtype))
