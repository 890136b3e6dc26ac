"""Eigenvalues, singular values and their vectors.

Vectors are fixed up to a choice only: a phase each, and for a repeated value a rotation among its vectors. Their
derivative divides by the differences of the values, so that it does not exist at a repeated one; that of a loss which
does not depend on the choice may exist all the same. A pullback, unlike a tangent map, sees what the loss does with
the vectors and can tell (`_over_gaps`).

Formulas: Giles 2008, Collected matrix derivative results; for complex singular vectors Wan and Zhang 2019
(arXiv:1909.02659); for general matrices Boeddeker et al. 2017 (arXiv:1701.00392). Cotangents pair with tangents as
there, Re tr(G^H dX).
"""

import numpy as np
from jax import lax
from jax.lax import add, mul, sub

from diffprog._jax_internals.sizes import may_exceed, min_dim, square_root
from diffprog._rules.linear_algebra.matrices import (
    adjoint,
    columns,
    conj,
    conjugated,
    diagonal,
    diagonal_matrix,
    lower,
    matmul,
    off_diagonal,
    rows,
    scale_columns,
    upper,
)
from diffprog._rules.linear_algebra.solves import solve
from diffprog._rules.linear_algebra.spectral_sums import (
    arrived,
    averaged,
    evenly_framed_eigh,
    factorized,
    framed_eigh,
    framed_svd,
    hermitian_sum,
    share_slope,
    singular_sum,
)
from diffprog._tracer.errors import MissingDerivative
from diffprog._tracer.rules import rule, rule_of_function

# ---------------------------------------------------------------- quotients at repeated values


def _eps(x):
    return np.finfo(x.dtype).eps


def _negligible(x, scale):
    """Whether a cotangent is rounding, compared with `scale`: what came before it may have lost some digits."""
    return lax.le(lax.abs(x), mul(scale, np.asarray(_eps(x) ** (2 / 3), scale.dtype)))


def doubt(effect, scale):
    """0 where the effect that a choice of vectors has on the loss is rounding, compared with `scale`; NaN elsewhere."""
    return lax.select(_negligible(effect, scale), lax.full_like(effect, 0), lax.full_like(effect, np.nan))


def _within_rounding(gap, values):
    """Whether this difference or sum of eigenvalues or singular values is rounding."""
    largest = lax.reduce_max(lax.abs(values), (values.ndim - 1,))
    largest = lax.broadcast_in_dim(largest, gap.shape, range(largest.ndim))
    rounding = lax.mul(square_root(values.shape[-1], largest.dtype), np.asarray(10 * _eps(gap), largest.dtype))
    return lax.le(lax.abs(gap), mul(largest, rounding))


def _quotient(x, y, vanishes):
    """Divide x by y, with 0 where both vanish."""
    x, y = lax.select(vanishes, lax.full_like(x, 0), x), lax.select(vanishes, lax.full_like(y, 1), y)
    return lax.div(x, lax.convert_element_type(y, x.dtype))


def _over_gaps(turning, values, g_values):
    """Make the matrix of skew[i, j] / (values[j] - values[i]), 0 on its diagonal.

    Where both are rounding, the quotient is 0 for a loss that does not weigh the vectors of equal values, and otherwise
    unknown: NaN, and not rounding divided by rounding.
    """
    half = np.asarray(0.5, turning.dtype)
    skew, shared = mul(sub(turning, adjoint(turning)), half), mul(add(turning, adjoint(turning)), half)
    shape, size = turning.shape, lax.abs(turning)
    gaps = sub(columns(values, shape), rows(values, shape))
    largest = lax.reduce_max(size, (size.ndim - 2,))
    scale = lax.max(columns(largest, shape), rows(largest, shape))

    weightless = _negligible(shared, scale)
    if g_values is None:
        weightless = lax.full_like(weightless, True)
    else:
        weightless = lax.bitwise_and(weightless, share_slope(values, g_values))
        read = lax.reduce_max(lax.abs(g_values), (g_values.ndim - 1,))
        unread = lax.broadcast_in_dim(lax.eq(read, lax.full_like(read, 0)), shape, range(read.ndim))
        strength = lax.abs(diagonal(shared))
        weighted = lax.bitwise_not(_negligible(lax.max(columns(strength, shape), rows(strength, shape)), scale))
        weightless = lax.bitwise_or(weightless, lax.bitwise_and(unread, weighted))
    vanishes = lax.bitwise_and(_within_rounding(gaps, values), _negligible(skew, scale))
    unknown = lax.bitwise_and(vanishes, lax.bitwise_not(weightless))
    quotients = _quotient(skew, off_diagonal(gaps, 1), vanishes)
    return off_diagonal(lax.select(unknown, lax.full_like(skew, np.nan), quotients))


# ---------------------------------------------------------------- Hermitian matrices


@rule("eigh")
def _eigh(primitive, needs_grad, args, params):
    """Differentiate A V = V diag(w) for a Hermitian A, of which one triangle is read; a vector's phase does not move.

    The cotangent is that of the triangle; the symmetrization in `jax.numpy.linalg.eigh` spreads it over both.
    """
    results, pull = _framed_eigh(args[0], primitive, params)
    return results[:2], [True, True], lambda cotangents: pull((*cotangents, None, None))


@rule_of_function(framed_eigh)
def _framed_again(run, needs_grad, args, jaxpr, evenly=False):
    if len(jaxpr.out_avals) < 4:  # nobody reads the hidden results
        return None
    primitive, params, order = factorized(jaxpr, "eigh")
    results, pull = _framed_eigh(lax.transpose(args[0], order), primitive, params, evenly)
    return results, [True] * 4, lambda cotangents: [lax.transpose(pull(cotangents)[0], np.argsort(order))]


@rule_of_function(evenly_framed_eigh)
def _evenly_framed(run, needs_grad, args, jaxpr):
    return _framed_again(run, needs_grad, args, jaxpr, evenly=True)


def _framed_eigh(a, primitive, params, evenly=False):
    """Find eigenvalues and vectors with hidden results, and the map from the cotangents of all of them to that of A."""
    v, w, *hidden = results = evenly_framed_eigh(a) if evenly else framed_eigh(a, primitive, tuple(params.items()))
    if v.shape[-1] != v.shape[-2]:
        raise MissingDerivative(
            "eigh has no derivative of a subset of the eigenvalues, used", None, "compute all of them and take some"
        )

    def pull(cotangents):
        g_v, g_w, g_frame, g_again = cotangents
        whole = lax.full_like(v, 0) if g_again is None else g_again
        if g_w is not None:
            g_w = averaged(g_frame, w, g_w) if evenly else g_w
            (vectors,), g_shared = ([v], g_w) if g_frame is None else arrived([g_frame], [v], w, g_w)
            whole = add(whole, hermitian_sum(*hidden, vectors, w, g_shared))
        if g_v is not None:
            whole = add(whole, matmul(v, _over_gaps(matmul(adjoint(v), g_v), w, g_w), adjoint(v)))
        read, beside = (lower, -1) if params["lower"] else (upper, 1)
        return (add(read(whole), read(adjoint(whole), beside)),)

    return results, conjugated(pull)


# ---------------------------------------------------------------- singular values


@rule("svd")
def _svd(primitive, needs_grad, args, params):
    """Differentiate A = U diag(s) V^H.

    With `full_matrices` the vectors beyond the singular ones move no more than they have to, without rotating among
    themselves; a loss for which such a rotation matters gets NaN.
    """
    full = params["compute_uv"] and params["full_matrices"]
    results, pull = _framed_svd(args[0], primitive, params | {"compute_uv": True, "full_matrices": full})
    num_results = 3 if params["compute_uv"] else 1
    hidden = (None,) * (6 - num_results)
    return list(results[:num_results]), [True] * num_results, lambda cotangents: pull((*cotangents, *hidden))


@rule_of_function(framed_svd)
def _framed_svd_again(run, needs_grad, args, jaxpr):
    if len(jaxpr.out_avals) < 6:  # nobody reads the hidden results
        return None
    primitive, params, order = factorized(jaxpr, "svd")
    results, pull = _framed_svd(lax.transpose(args[0], order), primitive, params)
    return results, [True] * 6, lambda cotangents: [lax.transpose(pull(cotangents)[0], np.argsort(order))]


def _framed_svd(a, primitive, params):
    s, u, vh, *hidden = results = framed_svd(a, primitive, tuple(params.items()))
    rank = min_dim(*a.shape[-2:])
    if s.shape[-1] != rank:
        raise MissingDerivative(
            "svd has no derivative of a subset of the singular values, used", None, "compute all of them and take some"
        )

    def pull(cotangents):
        g_s, g_u, g_vh, g_left, g_right, g_again = cotangents
        v, g_v = adjoint(vh), None if g_vh is None else adjoint(g_vh)
        u1, g_u = _fold_null_space(u, g_u, rank)
        v1, g_v = _fold_null_space(v, g_v, rank)
        g = lax.full_like(a, 0) if g_again is None else g_again
        if g_s is not None:
            pair, g_shared = [u1, v1], g_s
            if g_left is not None and g_right is not None:
                pair, g_shared = arrived([g_left, g_right], pair, s, g_s)
            g = add(g, singular_sum(*hidden, pair[0], s, pair[1], g_shared))
        if g_u is not None or g_v is not None:
            g = add(g, _svd_cotangent(u1, s, v1, g_u, g_s, g_v))
        return (g,)

    return results, conjugated(pull)


def _fold_null_space(u, g, rank):
    """Take the first `rank` vectors of U = [U1 U2], with the cotangent of U as one of these: dU2 = -U1 dU1^H U2."""
    if u.shape[-1] == rank:
        return u, g
    split = lambda x: (lax.slice_in_dim(x, *where, axis=x.ndim - 1) for where in ((0, rank), (rank, x.shape[-1])))
    u1, u2 = split(u)
    if g is None:
        return u1, None
    g1, g2 = split(g)
    turning = matmul(adjoint(u2), g2)
    rotation = doubt(sub(turning, adjoint(turning)), _largest(turning))
    rotation = lax.reduce_sum(rotation, (u.ndim - 2, u.ndim - 1))
    g1 = sub(g1, matmul(u2, adjoint(g2), u1))
    return u1, add(g1, lax.broadcast_in_dim(rotation, g1.shape, range(u.ndim - 2)))


def _largest(x):
    """Find the largest absolute value of each matrix, at every place of it."""
    return lax.broadcast_in_dim(lax.reduce_max(lax.abs(x), (x.ndim - 2, x.ndim - 1)), x.shape, range(x.ndim - 2))


def _svd_cotangent(u, s, v, g_u, g_s, g_v):
    """Compute what the vectors add to the cotangent of A = U diag(s) V^H with as many vectors as values.

    Of the phase that a pair of complex vectors has in common U's moves, as in JAX. Two zero singular values are as good
    as repeated ones.
    """
    g_u, g_v = (lax.full_like(x, 0) if g is None else g for x, g in ((u, g_u), (v, g_v)))
    turn_u, turn_v = matmul(adjoint(u), g_u), matmul(adjoint(v), g_v)
    inner = add(_over_gaps(add(turn_u, turn_v), s, g_s), _over_sums(sub(turn_u, turn_v), s))
    if np.issubdtype(u.dtype, np.complexfloating):
        phase = _quotient(lax.imag(diagonal(turn_u)), s, _within_rounding(s, s))
        inner = add(inner, diagonal_matrix(lax.complex(lax.full_like(phase, 0), phase), u.dtype))
    g = matmul(u, inner, adjoint(v))
    if may_exceed(u.shape[-2], s.shape[-1]):
        g = add(g, matmul(_outside(u, turn_u, g_u, s), adjoint(v)))
    if may_exceed(v.shape[-2], s.shape[-1]):
        g = add(g, matmul(u, adjoint(_outside(v, turn_v, g_v, s))))
    return g


def _over_sums(turning, s):
    """Make the matrix of skew(turning)[i, j] / (s[i] + s[j]), 0 on its diagonal."""
    skew = mul(sub(turning, adjoint(turning)), np.asarray(0.5, turning.dtype))
    sums = add(columns(s, turning.shape), rows(s, turning.shape))
    vanishes = lax.bitwise_and(_within_rounding(sums, s), _negligible(skew, _largest(turning)))
    return off_diagonal(_quotient(skew, off_diagonal(sums, 1), vanishes))


def _outside(u, turn, g, s):
    """Divide the part of a cotangent of vectors outside of their span by their singular values."""
    part, s_of = sub(g, matmul(u, turn)), columns(s, u.shape)
    vanishes = lax.bitwise_and(_within_rounding(s_of, s), _negligible(part, _largest(g)))
    return _quotient(part, s_of, vanishes)


# ---------------------------------------------------------------- general matrices


@rule("eig")
def _eig(primitive, needs_grad, args, params):
    """Differentiate A V = V diag(w), W^H A = diag(w) W^H for the left vectors, with distinct eigenvalues.

    Vectors have unit norm and a real largest component, as LAPACK makes them. Without `enable_eigvec_derivs` that
    second choice is not relied upon: a loss that depends on the phase of a vector gets NaN (JAX refuses any).
    """
    (a,) = args
    has_left, has_right = params["compute_left_eigenvectors"], params["compute_right_eigenvectors"]
    w, *vectors = primitive.bind(a, **(params | {"compute_right_eigenvectors": True}))
    right = vectors[-1]
    free_phase = not params["enable_eigvec_derivs"]

    def pull(cotangents):
        g_w, *g_vectors = cotangents
        g_left = g_vectors.pop(0) if has_left else None
        g_right = g_vectors.pop(0) if has_right else None
        total = _eig_cotangent(right, w, g_w, g_right, free_phase)
        if g_left is not None:  # the right vectors of A^H
            total = add(total, adjoint(_eig_cotangent(vectors[0], conj(w), None, g_left, free_phase)))
        return (total if np.issubdtype(a.dtype, np.complexfloating) else lax.real(total),)

    results = [w, *vectors[: has_left + has_right]]
    return results, [True] * len(results), conjugated(pull)


def _eig_cotangent(v, w, g_w, g_v, free_phase):
    """Compute V^-H (diag(g_w) + F o (V^H G)) V^H.

    F[i, j] = 1 / conj(w[j] - w[i]), and G is orthogonal to the choices. Of equal eigenvalues nothing is known: NaN.
    """
    inner = lax.full_like(v, 0) if g_w is None else diagonal_matrix(g_w, v.dtype)
    if g_v is not None:
        turning = matmul(adjoint(v), _normalized(v, g_v, free_phase))
        gaps = sub(columns(w, v.shape), rows(w, v.shape))
        equal = _within_rounding(gaps, lax.abs(w))
        quotients = _quotient(turning, off_diagonal(conj(gaps), 1), equal)
        inner = add(inner, off_diagonal(lax.select(equal, lax.full_like(turning, np.nan), quotients)))
    return solve(adjoint(v), matmul(inner, adjoint(v)))


def _normalized(v, g, free_phase):
    """Turn the cotangent of vectors of norm 1 with a real largest component into one of any length and phase."""
    along = lax.reduce_sum(mul(conj(g), v), (v.ndim - 2,))
    g = sub(g, scale_columns(v, lax.real(along)))
    turn = columns(lax.imag(along), v.shape)
    if free_phase:
        phase = doubt(turn, _largest(g))
        return add(g, lax.complex(phase, phase))
    place = lax.broadcasted_iota(np.int32, v.shape, v.ndim - 2)
    largest = columns(lax.argmax(lax.abs(v), v.ndim - 2, np.int32), v.shape)
    real = lax.select(lax.eq(place, largest), lax.real(v), lax.full_like(turn, np.inf))
    return add(g, lax.complex(lax.full_like(turn, 0), lax.div(turn, real)))
