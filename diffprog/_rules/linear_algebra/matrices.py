"""Small operations on batches of matrices, of which the rules of linear algebra are made.

The literature pairs a cotangent G with a tangent dX as Re tr(G^H dX), JAX as Re tr(G^T dX). For real matrices these are
the same; for complex ones a formula of the literature becomes JAX's when its cotangents are conjugated on the way in
and on the way out, which is what `conjugated` does.
"""

from collections.abc import Callable

import jax
import numpy as np
from jax import lax


def conj(x):
    return lax.conj(x) if np.issubdtype(x.dtype, np.complexfloating) else x


def conjugated(pull: Callable) -> Callable:
    """Turn `pull`, written in the convention of the literature, into JAX's."""
    return lambda g: jax.tree.map(conj, pull(jax.tree.map(conj, g)))


def transpose(x):
    return lax.transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def adjoint(x):
    return conj(transpose(x))


def matmul(*factors):
    """Multiply batches of matrices, from left to right, at full precision."""
    product, *rest = factors
    for x in rest:
        batch = tuple(range(x.ndim - 2))
        dimension_numbers = ((product.ndim - 1,), (x.ndim - 2,)), (batch, batch)
        product = lax.dot_general(product, x, dimension_numbers, precision=lax.Precision.HIGHEST)
    return product


def solve_triangular(a, b, **options):
    return lax.linalg.triangular_solve(a, b, **options)


def _where(x, keep: Callable, other=0):
    """Keep `x` where `keep(column - row)` of its matrices holds, and put `other` elsewhere."""
    offset = lax.sub(*(lax.broadcasted_iota(np.int32, x.shape, x.ndim - d) for d in (1, 2)))
    return lax.select(keep(offset), x, lax.full_like(x, other))


def lower(x, k: int = 0):
    """Keep `x` on and below its k-th diagonal, 0 above."""
    return _where(x, lambda d: lax.le(d, np.int32(k)))


def upper(x, k: int = 0):
    """Keep `x` on and above its k-th diagonal, 0 below."""
    return _where(x, lambda d: lax.ge(d, np.int32(k)))


def half_lower(x):
    """Keep the lower triangle of `x`, and half of its diagonal."""
    return lax.mul(lax.add(lower(x), lower(x, -1)), np.asarray(0.5, x.dtype))


def on_diagonal(x):
    """Keep the diagonal of `x`, with zeros off it."""
    return _where(x, lambda d: lax.eq(d, np.int32(0)))


def off_diagonal(x, fill=0):
    """`x` with `fill` on its diagonal."""
    return _where(x, lambda d: lax.ne(d, np.int32(0)), fill)


def identity_like(x):
    """Identities of the shape and dtype of `x`."""
    return on_diagonal(lax.full_like(x, 1))


def diagonal(x):
    """Get the diagonals of square matrices."""
    return lax.reduce_sum(on_diagonal(x), (x.ndim - 1,))


def columns(d, shape):
    """Make the vectors `d` every row of matrices of this shape: one number for each column."""
    return lax.broadcast_in_dim(d, shape, (*range(d.ndim - 1), len(shape) - 1))


def rows(d, shape):
    """Make the vectors `d` every column of matrices of this shape: one number for each row."""
    return lax.broadcast_in_dim(d, shape, range(d.ndim))


def scale_columns(x, d):
    return lax.mul(x, lax.convert_element_type(columns(d, x.shape), x.dtype))


def scale_rows(x, d):
    return lax.mul(x, lax.convert_element_type(rows(d, x.shape), x.dtype))


def column_slice(x, start, stop):
    return lax.slice_in_dim(x, start, stop, axis=x.ndim - 1)


def row_slice(x, start, stop):
    return lax.slice_in_dim(x, start, stop, axis=x.ndim - 2)


def placed(x, start: int, size: int):
    """`x` in a square matrix of zeros, its first element at (start, start)."""
    ends = [(start, size - start - n, 0) for n in x.shape[-2:]]
    return lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0)] * (x.ndim - 2) + ends)


def diagonal_matrix(d, dtype):
    return on_diagonal(lax.convert_element_type(columns(d, (*d.shape, d.shape[-1])), dtype))
