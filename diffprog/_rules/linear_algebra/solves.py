"""Triangular factorizations and linear solves.

Cotangents in the formulas below pair with tangents as in the literature, Re tr(G^H dX), where `conjugated` stands
around them, and as in JAX, Re tr(G^T dX), where it does not (see `diffprog._rules.linear_algebra.matrices`).
"""

from functools import reduce

import jax.numpy as jnp
import numpy as np
from jax import lax, typeof
from jax.lax import add, div, mul, neg, sub

from diffprog._jax_internals import jaxpr_as_fun
from diffprog._jax_internals.devices import placement
from diffprog._jax_internals.jaxprs import has_loop
from diffprog._jax_internals.sizes import may_exceed, min_dim
from diffprog._rules.linear_algebra.matrices import (
    adjoint,
    column_slice,
    conj,
    conjugated,
    half_lower,
    identity_like,
    lower,
    matmul,
    placed,
    row_slice,
    solve_triangular,
    transpose,
    upper,
)
from diffprog._rules.via_equivalent_program import pullback_of
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.rules import rule

# ---------------------------------------------------------------- Cholesky


@rule("cholesky")
def _cholesky(primitive, needs_grad, args, params):
    """Differentiate A = L L^H, of which the lower triangle alone is read (Murray 2016, arXiv:1602.07527, sec. 3).

    The cotangent is that of the lower triangle; the symmetrization in `jax.numpy.linalg.cholesky` spreads it over both.
    """
    (a,) = args
    factor = lower(primitive.bind(a))

    def pull(g):
        return (cholesky_cotangent(factor, g),)

    return factor, conjugated(pull)


def cholesky_cotangent(factor, g):
    """Pull the cotangent of L back to the lower triangle of A = L L^H."""
    inner = half_lower(matmul(adjoint(factor), lower(g)))
    left = solve_triangular(factor, inner, left_side=True, lower=True, transpose_a=True, conjugate_a=True)
    whole = solve_triangular(factor, left, left_side=False, lower=True)
    return half_lower(add(whole, adjoint(whole)))


# ---------------------------------------------------------------- triangular solve


@rule("triangular_solve")
def _triangular_solve(primitive, needs_grad, args, params):
    """Differentiate op(A) X = B or X op(A) = B.

    B's cotangent solves the transposed system, A's is minus its product with X.
    """
    a, b = args
    x = primitive.bind(a, b, **params)
    transposed = params | {"transpose_a": not params["transpose_a"]}

    def to_a(g_b):
        g = matmul(g_b, transpose(x)) if params["left_side"] else matmul(transpose(x), g_b)
        g = transpose(g) if params["transpose_a"] else g
        g = conj(g) if params["conjugate_a"] else g
        beside = int(params["unit_diagonal"])  # the diagonal is not read then
        return neg(lower(g, -beside) if params["lower"] else upper(g, beside))

    def pull(g):
        g_b = primitive.bind(a, g, **transposed)
        return to_a(g_b) if needs_grad[0] else None, g_b

    return x, pull


# ---------------------------------------------------------------- LU


@rule("lu")
def _lu(primitive, needs_grad, args, params):
    """P A = L U, of any shape, as dL = L E and dU = L^-1 P dA - E U with E = tril(L^-1 P dA U^-1, -1).

    L is completed to a square matrix by a part of the identity (de Hoog, Anderssen and Lukas 2011). E has no last
    column, unless A is tall: the last pivot may be 0 then. The order of the rows is locally constant.
    """
    (a,) = args
    lu, pivots, order = primitive.bind(a, **params)
    m, n = lu.shape[-2:]
    k = min_dim(m, n)
    num_columns = k if k == 0 or may_exceed(m, n) else k - 1  # of E

    def pull(cotangents):
        g, *_ = cotangents
        left, right, g_upper = _square_lower(lu), upper(row_slice(lu, 0, num_columns)), upper(g)
        to_e = matmul(transpose(left), column_slice(lower(g, -1), 0, num_columns))
        to_e = lower(sub(to_e, matmul(g_upper, transpose(right))), -1)
        square = column_slice(right, 0, num_columns)
        f = solve_triangular(square, to_e, left_side=False, lower=False, transpose_a=True)
        f = lax.pad(f, np.zeros((), f.dtype), [*[(0, 0, 0)] * (f.ndim - 1), (0, n - num_columns, 0)])
        f = add(f, g_upper)
        f = solve_triangular(left, f, left_side=True, lower=True, transpose_a=True, unit_diagonal=True)
        return (take_rows(f, inverse_order(order)),)

    return [lu, pivots, order], [True, False, False], pull


def _square_lower(lu):
    """L (m x m) of an m x n matrix that holds it, completed by the identity."""
    m, n = lu.shape[-2:]
    left = lower(placed(column_slice(lu, 0, min_dim(m, n)), 0, m), -1)
    return add(left, identity_like(left))


def take_rows(x, order):
    """Take the rows of matrices in this order."""
    batch = tuple(range(x.ndim - 2))
    dimension_numbers = lax.GatherDimensionNumbers(
        offset_dims=(x.ndim - 1,),
        collapsed_slice_dims=(x.ndim - 2,),
        start_index_map=(x.ndim - 2,),
        operand_batching_dims=batch,
        start_indices_batching_dims=batch,
    )
    sizes = (*[1] * (x.ndim - 1), x.shape[-1])
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return lax.gather(x, lax.expand_dims(order, [order.ndim]), dimension_numbers, sizes, unique_indices=True, mode=mode)


def inverse_order(order):
    positions = lax.broadcasted_iota(order.dtype, order.shape, order.ndim - 1)
    return lax.sort((order, positions), num_keys=1)[1]


def solve(a, b):
    """A^-1 B for square matrices."""
    lu, _, order = lax.linalg.lu(a)
    half = solve_triangular(lu, take_rows(b, order), left_side=True, lower=True, unit_diagonal=True)
    return solve_triangular(lu, half, left_side=True)


# ---------------------------------------------------------------- QR


@rule("qr")
def _qr(primitive, needs_grad, args, params):
    """Thin, square, wide and full QR; with pivoting the order of the columns is locally constant.

    R has a real diagonal. It must not have a zero on it: the columns of A (the first ones, if A is wide) must be
    linearly independent.
    """
    (a,) = args
    q, r, *order = primitive.bind(a, **params)

    def pull(cotangents):
        g_q, g_r = fill_zeros(cotangents[:2], map(typeof, (q, r)))
        g = qr_cotangent(q, r, g_q, g_r)
        if order:
            g = transpose(take_rows(transpose(g), inverse_order(order[0])))
        return (g,)

    return [q, r, *order], [True, True, *[False] * len(order)], conjugated(pull)


def qr_cotangent(q, r, g_q, g_r):
    """From the cotangents of Q and R to that of A = Q R."""
    k, n = r.shape[-2:]
    if k < n:
        return _wide_qr_cotangent(q, r, g_q, g_r)
    if k > n:
        g_q = _fold_complement(q, g_q, n)
        q, r, g_r = column_slice(q, 0, n), row_slice(r, 0, n), row_slice(g_r, 0, n)
    return _thin_qr_cotangent(q, r, g_q, g_r)


def _thin_qr_cotangent(q, r, g_q, g_r):
    """Compute [G_Q + Q herm(M)] R^-H with M = R G_R^H - G_Q^H Q, its lower triangle mirrored.

    Roberts and Roberts 2020 (arXiv:2009.10071), for complex matrices with the real part of the diagonal.
    """
    m = sub(matmul(r, adjoint(g_r)), matmul(adjoint(g_q), q))
    half = half_lower(m)
    g = add(g_q, matmul(q, add(half, adjoint(half))))
    return solve_triangular(r, g, left_side=False, lower=False, transpose_a=True, conjugate_a=True)


def _wide_qr_cotangent(q, r, g_q, g_r):
    """Differentiate A = Q [R1 R2]: the square part as ever, and R2 = Q^H A2."""
    m, n = r.shape[-2:]
    r1, r2, g1, g2 = (column_slice(x, *where) for x in (r, g_r) for where in ((0, m), (m, n)))
    a2 = matmul(q, r2)
    first = _thin_qr_cotangent(q, r1, add(g_q, matmul(a2, adjoint(g2))), g1)
    return lax.concatenate([first, matmul(q, g2)], first.ndim - 1)


def _fold_complement(q, g_q, n):
    """Turn the cotangent of a full Q = [Q1 Q2] into one of Q1, for the Q2 that Householder reflections make."""
    m = q.shape[-1]
    q1, q2, g1, g2 = (column_slice(x, *where) for x in (q, g_q) for where in ((0, n), (n, m)))
    top = sub(row_slice(q1, 0, n), identity_like(row_slice(q1, 0, n)))
    z = adjoint(solve(adjoint(top), adjoint(row_slice(q1, n, m))))
    inner = matmul(adjoint(g2), add(q1, matmul(q2, z)))
    below = lax.concatenate([matmul(adjoint(z), inner), neg(inner)], inner.ndim - 2)
    return add(add(g1, matmul(g2, z)), below)


# ---------------------------------------------------------------- tridiagonal and implicit solves


@rule("tridiagonal_solve")
def _tridiagonal_solve(primitive, needs_grad, args, params):
    """Read the diagonals' cotangents off minus the product of B's cotangent with X."""
    below, middle, above, b = args
    x = primitive.bind(below, middle, above, b, **params)
    axis = middle.ndim - 1

    def shifted(v, by):
        """v[..., i - by] at i, with 0 from outside."""
        return lax.pad(v, np.zeros((), v.dtype), [(by, -by, 0) if d == axis else (0, 0, 0) for d in range(v.ndim)])

    def pull(g):
        g_b = primitive.bind(shifted(above, 1), middle, shifted(below, -1), g, **params)
        diagonals = (
            neg(lax.reduce_sum(mul(g_b, shifted(x, by)), (x.ndim - 1,))) if want else None
            for by, want in zip((1, 0, -1), needs_grad, strict=False)
        )
        return *diagonals, g_b

    return x, pull


@rule("custom_linear_solve")
def _custom_linear_solve(primitive, needs_grad, args, params):
    """Differentiate A X = B for a linear function A.

    B's cotangent solves the transposed system, and A's constants get that of minus A X. What `solve` itself closes over
    has none, and auxiliary results have none, as in JAX. An iterative solver stops by a norm, whose square has half the
    range of its dtype: it gets a cotangent of a size near 1.
    """
    jaxprs, lengths = params["jaxprs"], params["const_lengths"]
    ends = np.cumsum(lengths)
    groups = [list(args[start:end]) for start, end in zip((0, *ends), (*ends, len(args)), strict=True)]
    (of_matvec, of_vecmat, of_solve, of_transposed), b = groups[:4], groups[4]
    want_matvec, want_b = needs_grad[: lengths[0]], needs_grad[ends[-1] :]
    results = primitive.bind(*args, **params)
    if not any(want_matvec) and not any(want_b):
        return results, [False] * len(results), None
    if jaxprs.transpose_solve is None:
        raise TypeError(
            "custom_linear_solve has no transpose_solve, which its gradient takes: give it one, or symmetric=True"
        )
    x = results[: len(b)]
    transposed = {"jaxprs": jaxprs.transpose(), "const_lengths": lengths.transpose()}
    constants = *of_vecmat, *of_matvec, *of_transposed, *of_solve
    solve_transposed = lambda *g: primitive.bind(*constants, *g, **transposed)[: len(b)]

    def pull(cotangents):
        g = fill_zeros(cotangents[: len(b)], map(typeof, x))
        iterative = has_loop(jaxprs.transpose_solve)
        to_b = _at_size_one(solve_transposed, g) if iterative else solve_transposed(*g)
        to_matvec = [None] * lengths[0]
        if any(want_matvec):
            apply = lambda *constants: jaxpr_as_fun(jaxprs.matvec)(*constants, *x)
            to_matvec = pullback_of(apply, want_matvec, of_matvec)([neg(g) for g in to_b])
        return [*to_matvec, *[None] * sum(lengths[1:]), *to_b]

    return results, [True] * len(b) + [False] * (len(results) - len(b)), pull


def _at_size_one(linear, xs):
    """Apply a linear map to arrays divided by the power of two near their largest element, and multiply the results."""
    scale = _power_of_two([lax.stop_gradient(x) for x in xs])

    def by_scale(operation, x):
        factor = lax.convert_element_type(scale, x.dtype)
        return operation(x, lax.broadcast_in_dim(factor, x.shape, (), out_sharding=placement(typeof(x))))

    return [by_scale(mul, y) for y in linear(*(by_scale(div, x) for x in xs))]


def _power_of_two(xs):
    """Round the largest size of these arrays' elements to a power of two that has an inverse in their dtypes."""
    sizes = [lax.reduce_max(lax.abs(x), range(x.ndim)) for x in xs if x.size]
    narrowest = min((jnp.finfo(size.dtype) for size in sizes), key=lambda kind: kind.max)
    widest = max((jnp.finfo(size.dtype) for size in sizes), key=lambda kind: kind.max)
    largest = reduce(lax.max, (lax.convert_element_type(size, widest.dtype) for size in sizes))
    least, most = (np.asarray(2.0**n, widest.dtype) for n in (narrowest.minexp, narrowest.maxexp - 2))
    return lax.clamp(least, lax.reduce_precision(largest, widest.nexp, 0), most)
