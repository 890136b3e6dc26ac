"""The caller's parameters as one real vector, and back.

Second-order and black-box methods know vectors. A complex number is two real ones, so that the vector's gradient is
the direction of ascent. Leaves that no gradient can change (`_trainable.py`) are kept out.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.promotion import own_promotion
from diffprog.optimize._trainable import split

Unflatten = Callable[[jax.Array], Any]


@own_promotion()
def flatten(tree: Any) -> tuple[jax.Array, Unflatten]:
    """Lay the trainable leaves of a pytree one after the other.

    Args:
      tree: parameters: a pytree with a float or complex array in it.

    Returns:
      A real vector (n,) of the widest type among the leaves, at least float32; and the function that makes a pytree
      like `tree` of such a vector.

    Raises:
      ValueError: there is no float or complex array in the pytree.
    """
    trainable, join = split(tree)
    leaves, structure = jax.tree.flatten(trainable)
    if not leaves:
        raise ValueError(
            f"parameters must have a float or complex array; found none in {_kinds(tree)}: write 1.0 for 1"
        )
    shapes, dtypes = [jnp.shape(x) for x in leaves], [jnp.result_type(x) for x in leaves]
    widest = jnp.result_type(jnp.float32, *(jnp.finfo(dtype).dtype for dtype in dtypes))
    sizes = [
        int(np.prod(shape)) * (2 if jnp.issubdtype(dtype, jnp.complexfloating) else 1)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]
    ends = np.cumsum(sizes)

    def unflatten(vector):
        parts = [vector[end - size : end] for size, end in zip(sizes, ends, strict=True)]
        return join(jax.tree.unflatten(structure, [_shaped(*x) for x in zip(parts, shapes, dtypes, strict=True)]))

    return jnp.concatenate([_real(x).astype(widest) for x in leaves]), unflatten


def _real(leaf) -> jax.Array:
    leaf = jnp.ravel(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        return jnp.concatenate([leaf.real, leaf.imag])
    return leaf


def _shaped(part, shape, dtype) -> jax.Array:
    if jnp.issubdtype(dtype, jnp.complexfloating):
        real, imag = jnp.split(part.astype(jnp.finfo(dtype).dtype), 2)
        return jax.lax.complex(real, imag).reshape(shape)
    return part.reshape(shape).astype(dtype)


def _kinds(tree) -> str:
    kinds = [str(getattr(x, "dtype", type(x).__name__)) for x in jax.tree.leaves(tree)]
    return ", ".join(sorted(set(kinds))) or "an empty pytree"
