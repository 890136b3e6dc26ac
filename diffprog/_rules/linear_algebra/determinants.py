"""Determinants of singular matrices, whose derivatives are cofactors.

JAX's derivative of a determinant is 0 for every matrix whose LU factorization has a zero pivot before the last, and its
second derivative divides by the pivots.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap

from diffprog._jax_internals.sizes import are_known
from diffprog._rules.jax_functions import batch_first, differentiated_as
from diffprog._rules.linear_algebra.matrices import adjoint, diagonal, identity_like, matmul, scale_columns, scale_rows


def _regular(a):
    """Compute the determinant of invertible matrices, in a way whose derivatives JAX has right."""
    sign, logarithm = jnp.linalg.slogdet(a)
    return sign * jnp.exp(logarithm).astype(a.dtype)


def _any(a):
    """Compute the determinant of any matrices, with three derivatives.

    With A = U M V^H for the singular vectors of A, M is the diagonal of singular values, and moves. Its part of large
    ones is invertible; the determinant is that of this part times that of its Schur complement S, in which nothing is
    large: a polynomial in the traces of S, S^2 and S^3, or of an order above 3, if more singular values are small.
    """
    u, s, vh = lax.stop_gradient(jnp.linalg.svd(a))
    moving = matmul(adjoint(u), a, adjoint(vh))
    small = s <= _relative(s.dtype) * s[..., :1]
    kept = (~small).astype(s.dtype)
    inside = lambda x: scale_rows(scale_columns(x, kept), kept)
    outside = lambda x: scale_rows(scale_columns(x, 1 - kept), 1 - kept)
    part = inside(moving) + scale_columns(identity_like(a), 1 - kept)
    into = scale_rows(scale_columns(moving, 1 - kept), kept)
    out = scale_rows(scale_columns(moving, kept), 1 - kept)
    complement = outside(moving) - matmul(out, jnp.linalg.solve(part, into))
    return _regular(matmul(u, vh)) * _regular(part) * _small_determinant(complement, jnp.sum(small, -1))


def _relative(dtype):
    """Say below which part of the largest a singular value is small: second derivatives divide by it."""
    return np.asarray(jnp.finfo(dtype).eps ** 0.5, dtype)


def _small_determinant(s, order):
    """Compute the determinant of the `order` dimensions in which S is not 0, by Newton's identities."""
    square = matmul(s, s)
    one, two, three = (jnp.sum(diagonal(x)[..., None, :], (-1, -2)) for x in (s, square, matmul(square, s)))
    terms = jnp.ones_like(one), one, (one**2 - two) / 2, (one**3 - 3 * one * two + 2 * three) / 6
    return jnp.select([order == k for k in range(4)], terms, jnp.zeros_like(one))


@custom_vmap
def any_of(flags):
    """Ask whether any flag holds, also of all that `jax.vmap` maps over: a branch on it stays a branch."""
    return jnp.any(flags)


@any_of.def_vmap
def _any_of_batch(axis_size, in_batched, flags):
    return any_of(flags), False


def _determinant(a):
    """Take the way for singular matrices only where one is near."""
    pivots = jnp.abs(jnp.diagonal(lax.linalg.lu(lax.stop_gradient(a))[0], axis1=-2, axis2=-1))
    singular = jnp.min(pivots, -1) <= _relative(pivots.dtype) * jnp.max(pivots, -1)

    def some_singular(a):
        safe = jnp.where(singular[..., None, None], identity_like(a), a)
        return jnp.where(singular, _any(a), _regular(safe))

    any_singular = any_of(singular)
    safe = lambda a: jnp.where(any_singular, identity_like(a), a)
    return lax.cond(any_singular, some_singular, lambda a: _regular(safe(a)), a)


def _are_determinants(args, found):
    return np.allclose(np.linalg.det(args[0]), found, rtol=1e-3)


def _core_shapes(inputs, outputs):
    batch = outputs[0].shape
    n = round((inputs[0].size // (np.prod(batch, dtype=int) or 1)) ** 0.5)
    return batch, [(n, n)]


def _as_polynomial(args, jaxpr):
    (a,) = args
    if not are_known(a.shape):  # a symbolic size, which tells no order of the axes
        return None
    if not a.size:
        return lambda results, a: [jnp.ones_like(results[0])]
    orders = batch_first(jaxpr, _core_shapes, _are_determinants) if a.ndim > 2 else [(0, 1)]
    if orders is None or a.shape[orders[0][-1]] < 4:  # of small ones JAX writes out the polynomial
        return None
    return lambda results, a: [_determinant(jnp.transpose(a, orders[0]))]


differentiated_as(jnp.linalg.det, _as_polynomial)
