"""Matrix factorizations that JAX does not differentiate.

A factorization by Householder reflections stores its unitary factor as vectors y and numbers tau: Q = H_1 ... H_k with
H_i = I - tau_i y_i y_i^H, or Q = I - Y T Y^H with T upper triangular (Schreiber and Van Loan 1989). The unitary factor
of a similarity A = Q H Q^H moves by a skew-Hermitian W = Q^H dQ which keeps the form of H:

    dH = Q^H dA Q - W H + H W

This fixes W column by column, as a linear function of Q^H dA Q; the cotangent is the reverse pass over that function.
Cotangents pair with tangents as in the literature, Re tr(G^H dX), where `conjugated` stands around a formula.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, typeof
from jax.lax import add, mul, neg, sub

from diffprog._rules.linear_algebra.matrices import (
    adjoint,
    column_slice,
    columns,
    conj,
    conjugated,
    diagonal,
    diagonal_matrix,
    half_lower,
    identity_like,
    lower,
    matmul,
    on_diagonal,
    placed,
    row_slice,
    scale_rows,
    solve_triangular,
    transpose,
    upper,
)
from diffprog._rules.linear_algebra.solves import cholesky_cotangent, inverse_order, qr_cotangent, take_rows
from diffprog._rules.linear_algebra.spectra import doubt
from diffprog._rules.via_equivalent_program import via_program
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.rules import rule
from diffprog._tracer.vjp import vjp

# ---------------------------------------------------------------- Householder reflections


def _vectors(stored, num_vectors):
    """Read Y, unit lower trapezoidal, from the matrix that a factorization stores it in."""
    y = lower(column_slice(stored, 0, num_vectors), -1)
    return add(y, identity_like(y))


def _triangle(y, taus):
    """Compute T of H_1 ... H_k = I - Y T Y^H: its inverse has 1 / tau on the diagonal and Y^H Y above."""
    products = scale_rows(upper(matmul(adjoint(y), y), 1), taus)
    factors = diagonal_matrix(taus, y.dtype)
    return solve_triangular(add(products, identity_like(products)), factors, left_side=True, unit_diagonal=True)


@rule("householder_product")
def _householder_product(primitive, needs_grad, args, params):
    """Differentiate the first columns of H_1 ... H_k.

    Vectors and factors may be any, also those of a product that is not unitary.
    """

    def product(a, taus):
        y = _vectors(a, taus.shape[-1])
        return sub(identity_like(a), matmul(y, _triangle(y, taus), adjoint(row_slice(y, 0, a.shape[-1]))))

    return via_program(primitive, needs_grad, args, params, product)


@rule("ormqr")
def _ormqr(primitive, needs_grad, args, params):
    """Differentiate Q C, Q^H C, C Q or C Q^H."""

    def product(a, taus, c):
        y = _vectors(a, taus.shape[-1])
        t = _triangle(y, taus)
        t = adjoint(t) if params["transpose"] else t
        return sub(c, matmul(y, t, matmul(adjoint(y), c)) if params["left"] else matmul(c, y, t, adjoint(y)))

    return via_program(primitive, needs_grad, args, params, product)


def _reflected(y, taus, g_y, g_taus):
    """Pull the cotangents of Y and tau back to the first columns of Q, one for each reflection.

    I - Q = Y X is an LU factorization (Ballard et al. 2015) with tau on the diagonal of X, so that the cotangent is
    that of the rule for LU. A tau of 0, as of the last reflection of a real square matrix, comes with no vector.

    Returns:
      These columns and their cotangent.
    """
    k = y.shape[-1]
    y1, y2 = row_slice(y, 0, k), row_slice(y, k, y.shape[-2])
    g_y2 = row_slice(g_y, k, y.shape[-2])
    x = matmul(_triangle(y, taus), adjoint(y1))
    q = sub(identity_like(y), matmul(y, x))

    g_x = diagonal_matrix(g_taus, y.dtype)
    f = lower(sub(matmul(adjoint(y), lower(g_y, -1)), matmul(g_x, adjoint(x))), -1)
    f = lax.concatenate([f, g_y2], f.ndim - 2)
    gone = on_diagonal(lax.convert_element_type(lax.eq(x, lax.full_like(x, 0)), x.dtype))
    f = solve_triangular(add(x, gone), f, left_side=False, transpose_a=True, conjugate_a=True)
    f1, f2 = add(row_slice(f, 0, k), g_x), row_slice(f, k, y.shape[-2])
    f1 = sub(f1, matmul(adjoint(y2), f2))
    f1 = solve_triangular(y1, f1, left_side=True, lower=True, transpose_a=True, conjugate_a=True, unit_diagonal=True)
    return q, neg(lax.concatenate([f1, f2], f1.ndim - 2))


@rule("geqrf", "geqp3")
def _geqrf(primitive, needs_grad, args, params):
    """Differentiate QR and pivoted QR, stored as reflections below R.

    A's columns (the first ones, if it is wide) must be independent.
    """
    results = primitive.bind(*args, **params)
    out, *order, taus = results

    def pull(cotangents):
        g, *_, g_taus = fill_zeros(cotangents, map(typeof, results))
        k = taus.shape[-1]
        q, g_q = _reflected(_vectors(out, k), taus, column_slice(g, 0, k), g_taus)
        g = qr_cotangent(q, upper(row_slice(out, 0, k)), g_q, upper(row_slice(g, 0, k)))
        if order:  # LAPACK counts from 1
            g = transpose(take_rows(transpose(g), inverse_order(order[0])))
        return g, *[None] * len(order)

    return results, [True, *[False] * len(order), True], conjugated(pull)


# ---------------------------------------------------------------- unitary similarities

_dot = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def _similarity_cotangent(motion: Callable, q, h, g_q, g_h):
    """Compute the cotangent of A = Q H Q^H, where motion(H, Q^H dA Q) = Q^H dQ, dH for one matrix."""
    for _ in h.shape[:-2]:
        motion = jax.vmap(motion)
    _, pullback = vjp(lambda c: motion(h, c), lax.full_like(h, 0))
    (g,) = conjugated(pullback)((matmul(adjoint(q), g_q), g_h))
    return matmul(q, g, adjoint(q))


def _moved(h, w, c):
    return c - _dot(w, h) + _dot(h, w)


def _hessenberg_motion(h, c):
    """Solve for W = Q^H dQ, whose first column is zero, column by column.

    Column j of dH, zero below the subdiagonal and real on it, gives column j + 1 of W.
    """
    index = jnp.arange(h.shape[-1], dtype=np.int32)

    def column(w, inputs):
        j, c_j, h_j = inputs
        rhs = c_j - _dot(w, jnp.where(index <= j, h_j, 0)) + _dot(h, lax.dynamic_index_in_dim(w, j, 1, False))
        moved = rhs / lax.dynamic_index_in_dim(h_j, j + 1, keepdims=False)
        below = jnp.where(index > j + 1, moved, 0)
        phase = jnp.where(index == j + 1, (moved - conj(moved)) / 2, 0)
        unit = (index == j + 1).astype(h.dtype)
        return w + jnp.outer(below + phase, unit) - jnp.outer(unit, conj(below)), None

    w, _ = lax.scan(column, jnp.zeros_like(h), (index[:-1], c.T[:-1], h.T[:-1]))
    return w, upper(_moved(h, w, c), -1)


def _hessenberg_cotangent(stored, taus, h, g_stored, g_taus, g_h):
    """Compute the cotangent of A from those of the reflections stored below the subdiagonal and of H.

    The first row and column of Q are those of I.
    """
    n = h.shape[-1]
    inner = lambda x: column_slice(row_slice(x, 1, n), 0, n - 1)
    q, g_q = _reflected(_vectors(inner(stored), n - 1), taus, inner(g_stored), g_taus)
    first = placed(lax.full((*h.shape[:-2], 1, 1), 1, h.dtype), 0, n)
    return _similarity_cotangent(_hessenberg_motion, add(first, placed(q, 1, n)), h, placed(g_q, 1, n), g_h)


@rule("hessenberg")
def _hessenberg(primitive, needs_grad, args, params):
    """Differentiate A = Q H Q^H. No subdiagonal element of H may be zero: the form is not unique then."""
    out, taus = primitive.bind(*args, **params)

    def pull(cotangents):
        g, g_taus = fill_zeros(cotangents, map(typeof, (out, taus)))
        return (_hessenberg_cotangent(out, taus, upper(out, -1), g, g_taus, upper(g, -1)),)

    return [out, taus], [True, True], conjugated(pull)


@rule("tridiagonal")
def _tridiagonal(primitive, needs_grad, args, params):
    """Differentiate the Hessenberg form of a Hermitian matrix.

    One triangle of it is read; the result keeps the other as it is. With the upper triangle rows and columns run
    backwards. No off-diagonal element of the form may be zero.
    """
    results = primitive.bind(*args, **params)
    backwards = (lambda x, axes: x) if params["lower"] else lambda x, axes: lax.rev(x, range(x.ndim - axes, x.ndim))
    turned = lambda values: [backwards(x, axes) for x, axes in zip(values, (2, 1, 1, 1), strict=True)]

    def pull(cotangents):
        out, d, e, taus = turned(results)
        g, g_d, g_e, g_taus = turned(fill_zeros(cotangents, map(typeof, results)))
        subdiagonal = lambda v: _below_diagonal(v, out.dtype)
        h = add(diagonal_matrix(d, out.dtype), add(subdiagonal(e), transpose(subdiagonal(e))))
        g_h = add(lower(upper(g, -1)), add(diagonal_matrix(g_d, out.dtype), subdiagonal(g_e)))
        g_a = _hessenberg_cotangent(out, taus, h, g, g_taus, g_h)
        return (backwards(add(half_lower(add(g_a, adjoint(g_a))), upper(g, 1)), 2),)

    return results, [True] * 4, conjugated(pull)


def _below_diagonal(v, dtype):
    """Make matrices with the vectors `v` below their diagonal."""
    square = diagonal_matrix(v, dtype)
    return lax.pad(square, np.zeros((), dtype), [(0, 0, 0)] * (v.ndim - 1) + [(1, 0, 0), (0, 1, 0)])


# ---------------------------------------------------------------- Schur form


@rule("schur")
def _schur(primitive, needs_grad, args, params):
    """Differentiate A = Z T Z^H for distinct eigenvalues.

    Of a real matrix T may have 2 x 2 blocks, standardized by LAPACK to equal diagonal elements; a block a, b, -b, a,
    as a normal matrix has, is taken not to turn. Of a complex matrix the vectors' phases are a choice: a loss that
    depends on it gets NaN.
    """
    t, z = primitive.bind(*args, **(params | {"compute_schur_vectors": True}))
    results = [t, z] if params["compute_schur_vectors"] else [t]

    def pull(cotangents):
        g_t, g_z = fill_zeros((*cotangents, None)[:2], map(typeof, (t, z)))
        if np.issubdtype(t.dtype, np.complexfloating):
            g_z = add(g_z, _phase_doubt(t, z, g_t, g_z))
        return (_similarity_cotangent(_schur_motion, z, t, g_z, g_t),)

    return results, [True] * len(results), conjugated(pull)


def _phase_doubt(t, z, g_t, g_z):
    """Make 0, or NaN for the vectors whose phase matters to the loss."""
    turning = add(matmul(adjoint(z), g_z), sub(matmul(adjoint(t), g_t), matmul(g_t, adjoint(t))))
    scale = lax.reduce_max(lax.abs(turning), (t.ndim - 2,))
    phases = doubt(lax.imag(diagonal(turning)), scale)
    return lax.convert_element_type(columns(phases, t.shape), t.dtype)


def _schur_motion(t, c):
    """Solve for W = Z^H dZ and dT.

    A complex T is triangular; a real T with blocks is taken to a basis in which it is triangular.
    """
    index = jnp.arange(t.shape[-1], dtype=np.int32)
    if np.issubdtype(t.dtype, np.complexfloating):
        x = _lower_motion(t, c, index)
        w = x - adjoint(x)
        return w, upper(_moved(t, w, c))

    joined = jnp.diagonal(t, -1) != 0  # with the next
    basis = _triangularizing(t, joined)
    inside = lambda x: _dot(adjoint(basis), _dot(lax.complex(x, jnp.zeros_like(x)), basis))
    x = _lower_motion(inside(t), inside(c), index + jnp.append(joined, False).astype(index.dtype))
    x = lax.real(_dot(basis, _dot(x, adjoint(basis))))
    w = x - adjoint(x)
    w = w + _block_turns(t, joined, _moved(t, w, c))
    moved = _moved(t, w, c)
    return w, upper(moved) + jnp.diag(jnp.where(joined, jnp.diagonal(moved, -1), 0), -1)


def _lower_motion(t, c, last):
    """Solve X T - T X = c for X, in each column j below row last[j], for a triangular T."""
    n = t.shape[-1]
    index = jnp.arange(n, dtype=np.int32)

    @jax.checkpoint  # keeps n numbers of each step instead of n^2
    def solve(t, value, free, rhs):
        identity = jnp.eye(n, dtype=t.dtype)
        system = jnp.where(jnp.outer(free, free), value * identity - t, identity)
        return solve_triangular(system, rhs[:, None], left_side=True)[:, 0]

    def column(x, inputs):
        j, last_j, c_j, t_j = inputs
        free = index > last_j
        rhs = jnp.where(free, c_j - _dot(x, jnp.where(index < j, t_j, 0)), 0)
        solved = solve(t, lax.dynamic_index_in_dim(t_j, j, keepdims=False), free, rhs)
        return x + jnp.outer(solved, (index == j).astype(x.dtype)), None

    return lax.scan(column, jnp.zeros_like(c), (index, last, c.T, t.T))[0]


def _triangularizing(t, joined):
    """Find the unitary matrix that makes a standardized real T triangular.

    In a block a, b, c, a it has the vector of a + i sqrt(-b c).
    """
    above, below = (jnp.where(joined, jnp.diagonal(t, k), k) for k in (1, -1))
    height = jnp.sqrt(-above * below)
    length = jnp.hypot(above, height)
    cosine, sine = jnp.where(joined, above / length, 1), jnp.where(joined, height / length, 0)
    diagonal_values = jnp.append(cosine, 1.0) * jnp.append(1.0, cosine)  # a block's two columns share one cosine
    return lax.complex(jnp.diag(diagonal_values), jnp.diag(sine, 1) + jnp.diag(sine, -1))


def _block_turns(t, joined, moved):
    """Find the W inside of 2 x 2 blocks a, b, c, a that keeps their diagonal elements equal."""
    change, width = jnp.diff(jnp.diagonal(moved)), jnp.diagonal(t, 1) + jnp.diagonal(t, -1)
    turns = joined & (width != 0)
    angle = jnp.where(turns, change / jnp.where(turns, 2 * width, 1), 0)
    return jnp.diag(angle, -1) - jnp.diag(angle, 1)


# ---------------------------------------------------------------- updates and products


@rule("cholesky_update")
def _cholesky_update(primitive, needs_grad, args, params):
    """Differentiate R'^T R' = R^T R + w w^T for upper triangular R, through the Cholesky factor R'^T."""
    r, w = args
    out = primitive.bind(r, w, **params)

    def pull(g):
        g_lower = cholesky_cotangent(transpose(out), transpose(g))  # of the sum, as a function of its lower triangle
        g_sum = add(g_lower, transpose(g_lower))
        return upper(matmul(r, g_sum)), lax.squeeze(matmul(g_sum, lax.expand_dims(w, [1])), [1])

    return out, pull


@rule("symmetric_product")
def _symmetric_product(primitive, needs_grad, args, params):
    """Differentiate alpha A A^T + beta C."""
    a, c = args
    scaled = lambda x, by: mul(x, np.asarray(params[by], x.dtype))

    def pull(g):
        to_a = matmul(scaled(add(g, transpose(g)), "alpha"), a) if needs_grad[0] else None
        return to_a, scaled(g, "beta")

    return primitive.bind(a, c, **params), pull
