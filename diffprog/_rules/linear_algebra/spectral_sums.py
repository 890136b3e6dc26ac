"""Gradients of functions of eigenvalues or singular values, which have a derivative at equal values.

Such a gradient is V diag(g) V^H or U diag(g) V^H for the slopes g in the values. Its derivative along H divides
differences of slopes by differences of values, but for equal values: among their vectors it takes those in which H is
diagonal, as perturbation theory does. The slopes then move with the diagonal of H, and what comes back along the values
belongs to these vectors (Lewis and Sendov 2001, Twice differentiable spectral functions).

So that the rule of the factorization hears which vectors were taken, it makes results that nobody sees: the cotangents
of some are these vectors, and that of the last goes to the matrix as it is.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from diffprog._jax_internals.jaxprs import transposed_inputs
from diffprog._jax_internals.sizes import square_root
from diffprog._rules.jax_functions import with_slope
from diffprog._rules.linear_algebra.determinants import any_of
from diffprog._rules.linear_algebra.matrices import (
    adjoint,
    conjugated,
    diagonal,
    diagonal_matrix,
    identity_like,
    matmul,
    scale_columns,
)
from diffprog._tracer.rules import rule_of_function

# ---------------------------------------------------------------- equal values


def _rounding_of(values):
    """Say which differences of eigenvalues or singular values are rounding, one number for each matrix."""
    relative = 10 * square_root(values.shape[-1], values.dtype) * jnp.finfo(values.dtype).eps
    return relative * jnp.max(jnp.abs(values), -1, keepdims=True, initial=0)


def _pairs(operation, x):
    """Make matrices of operation(x[i], x[j])."""
    return operation(x[..., :, None], x[..., None, :])


def _groups(values):
    """Count for each value those below it, equal ones together: the same number for equal values."""
    return jnp.sum(values[..., None, :] < (values - _rounding_of(values))[..., :, None], -1)


def _negligible(x, scale):
    return jnp.abs(x) <= scale * jnp.finfo(x.dtype).eps ** (2 / 3)


def share_slope(values, g):
    """Say for each pair of equal values whether they have the same slope, within rounding; of others it is true."""
    largest = jnp.max(jnp.abs(g), -1, initial=0)[..., None, None]
    return _negligible(_pairs(jnp.subtract, g), largest) | ~_pairs(jnp.equal, _groups(values))


def _over(numerators, denominators, excluded):
    """Divide, with 0 for what is excluded."""
    return jnp.where(excluded, 0, numerators / jnp.where(excluded, 1, denominators))


def _diagonalizing(h, groups):
    """Find a unitary matrix that mixes equal values alone, and makes the blocks of H that belong to them diagonal."""
    blocks = jnp.where(_pairs(jnp.equal, groups), h, 0)
    step = 3 * jnp.max(jnp.sum(jnp.abs(blocks), -1), -1, keepdims=True)
    return jnp.linalg.eigh(blocks + diagonal_matrix(groups.astype(step.dtype) * step, h.dtype))[1]


def have_equals(values):
    """Say for each value whether another one is equal to it, within rounding; also of complex eigenvalues."""
    distances = jnp.abs(_pairs(jnp.subtract, values))
    return jnp.sum(distances <= _rounding_of(jnp.abs(values))[..., None], -1) > 1


def no_derivative_where(unknown, x):
    """Return x, whose derivative is NaN where it says so: NaN, and no wrong number."""
    slope = lambda x, unknown: jnp.where(unknown != 0, jnp.nan, 0).astype(x.dtype)
    nothing = with_slope(slope, lambda x, unknown: jnp.zeros_like(x))
    return x + nothing(x, jnp.broadcast_to(unknown, x.shape).astype(x.dtype))


def _off_diagonal_pairs(same):
    return same & ~jnp.eye(same.shape[-1], dtype=bool).reshape((1,) * (same.ndim - 2) + same.shape[-2:])


def _scaled(x, factors):
    return x * factors.astype(x.dtype)


# ---------------------------------------------------------------- the sums


def _in_place(x):
    """Do nothing, in an operation for which `jax.vmap` moves the batch to the front, so that the rule finds it."""
    return lax.squeeze(lax.broadcast_in_dim(x, (1, *x.shape), range(1, x.ndim + 1)), [0])


def _with(g, values, *frames):
    """Let g depend on all of these, so that no pass over the program drops them from the call."""
    zero = lambda frame: jnp.sum(jnp.real(frame), -2).astype(g.dtype)
    return g + sum(map(zero, frames), values * 0)


@jax.jit
def hermitian_sum(frame, again, v, w, g):
    """Compute V diag(g) V^H, the gradient of a function of the eigenvalues w with the slopes g.

    The hidden arguments are 0 and take cotangents back, see above; w is here for the derivative.
    """
    frame, again, v, w, g = map(_in_place, (frame, again, v, w, g))
    return matmul(scale_columns(v, _with(g, w, frame)), adjoint(v)) + again


@jax.jit
def singular_sum(left, right, again, u, s, v, g):
    """Compute U diag(g) V^H, the gradient of a function of the singular values s with the slopes g."""
    left, right, again, u, s, v, g = map(_in_place, (left, right, again, u, s, v, g))
    return matmul(scale_columns(u, _with(g, s, left, right)), adjoint(v)) + again


def _knows_equal_values(function: Callable, core_dims: tuple[int, ...]):
    """Register the decorated derivative of a sum, written for arguments with the batch first.

    It maps the arguments and the cotangent, in the convention of the literature, to the cotangents of the arguments,
    None for those that it tells nothing.
    """

    def register(derivative):
        @rule_of_function(function)
        def apply(run, needs_grad, args, jaxpr):
            if len(args) != len(core_dims) or 0 in jaxpr.out_avals[0].shape:
                return None
            orders, batch = transposed_inputs(jaxpr), jaxpr.out_avals[0].shape[:-2]
            moved = [jnp.transpose(x, order) for x, order in zip(args, orders, strict=True)]
            cores = [x.shape[x.ndim - core :] for x, core in zip(moved, core_dims, strict=True)]
            whole = [(*batch, *core) for core in cores]
            if any(x.shape not in shapes for x, *shapes in zip(moved, cores, whole, strict=True)):
                return None  # batched more than once, and not in each argument
            spread = [jnp.broadcast_to(x, shape) for x, shape in zip(moved, whole, strict=True)]

            def back(g, x, order):
                return (
                    None if g is None else jnp.transpose(jnp.sum(g, tuple(range(g.ndim - x.ndim))), np.argsort(order))
                )

            def pull(cotangents):
                sent = conjugated(lambda h: derivative(*spread, h))(cotangents[0])
                return list(map(back, sent, args, orders))

            return run(*args), [True], pull

    return register


@_knows_equal_values(hermitian_sum, (2, 2, 2, 1, 1))
def _of_hermitian_sum(frame, again, v, w, g, h):
    """Compute the divided differences of g times V^H H V, and the slopes' cotangents in the vectors that H chooses."""
    h = (h + adjoint(h)) / 2
    inner, groups = matmul(adjoint(v), h, v), _groups(w)
    same = _pairs(jnp.equal, groups)
    equal = _off_diagonal_pairs(same)
    chosen = jnp.any(equal, (-2, -1))
    turn = lax.cond(
        any_of(chosen),
        lambda inner: _diagonalizing(inner, groups),
        lambda inner: identity_like(inner),
        lax.stop_gradient(inner),
    )
    vectors = jnp.where(chosen[..., None, None], matmul(v, turn), v)
    slopes = jnp.real(diagonal(matmul(adjoint(vectors), h, vectors)))

    quotients = _over(_pairs(jnp.subtract, g), _pairs(jnp.subtract, w), same)
    quotients = jnp.where(equal & ~share_slope(w, g), jnp.nan, quotients)
    to_matrix = matmul(v, _scaled(inner, quotients), adjoint(v))
    return vectors, to_matrix, None, None, no_derivative_where(chosen[..., None], slopes)


@_knows_equal_values(singular_sum, (2, 2, 2, 2, 1, 2, 1))
def _of_singular_sum(left, right, again, u, s, v, g, h):
    """Compute the same for singular values, whose vectors also turn against each other, which divides by sums.

    A function with a derivative at 0 is even there: a value 0 has the slope 0, and any vectors of the null spaces.
    """
    inner, groups = matmul(adjoint(u), h, v), _groups(-s)
    zero = s <= _rounding_of(s)
    shared, skew = (inner + adjoint(inner)) / 2, (inner - adjoint(inner)) / 2
    same, both_zero = _pairs(jnp.equal, groups), _pairs(jnp.logical_and, zero)
    equal = _off_diagonal_pairs(same)
    is_plain = u.shape[-2] == v.shape[-2] and not jnp.iscomplexobj(u)  # one value 0 leaves nothing to choose but a sign
    chosen = jnp.any(equal, (-2, -1)) | (jnp.any(zero, -1) & (not is_plain))
    turned = lax.cond(
        any_of(chosen),
        lambda *args: _chosen_pairs(*args, groups, zero),
        lambda h, shared, u, v: (u, v),
        *lax.stop_gradient((h, shared, u, v)),
    )
    choose = lambda x, y: jnp.where(chosen[..., None, None], x, y)
    left, right = map(choose, turned, (u, v))
    slopes = jnp.real(diagonal(matmul(adjoint(left), h, right)))

    differences = _over(_pairs(jnp.subtract, g), _pairs(jnp.subtract, s), same)
    differences = jnp.where(equal & ~share_slope(s, g), jnp.nan, differences)
    flat = _negligible(g, jnp.max(jnp.abs(g), -1, keepdims=True, initial=0)) | ~zero
    sums = _over(_pairs(jnp.add, g), _pairs(jnp.add, s), both_zero)
    sums = jnp.where(both_zero & ~_pairs(jnp.logical_and, flat) & (skew != 0), jnp.nan, sums)
    ratios = jnp.where(flat, _over(g, s, zero), jnp.nan)
    to_matrix = matmul(u, _scaled(shared, differences) + _scaled(skew, sums), adjoint(v))
    if u.shape[-2] != s.shape[-1]:
        outside = matmul(h, v) - matmul(u, inner)
        to_matrix = to_matrix + matmul(scale_columns(outside, ratios), adjoint(v))
    if v.shape[-2] != s.shape[-1]:
        outside = matmul(adjoint(h), u) - matmul(v, adjoint(inner))
        to_matrix = to_matrix + matmul(scale_columns(u, ratios), adjoint(outside))
    return left, right, to_matrix, None, None, None, no_derivative_where(chosen[..., None], slopes)


def _chosen_pairs(h, shared, u, v, groups, zero):
    """Choose singular vectors: H is diagonal in those of equal values, and from null space to null space."""
    turn = _diagonalizing(shared, groups)
    pairs = matmul(u, turn), matmul(v, turn)
    u_kept, v_kept = (scale_columns(x, ~zero) for x in (u, v))
    between = h - matmul(u_kept, adjoint(u), h)
    between = between - matmul(between, v_kept, adjoint(v))
    x, _, yh = jnp.linalg.svd(between, full_matrices=False)
    size = zero.shape[-1]
    place = (jnp.arange(size) - jnp.sum(~zero, -1, keepdims=True)) % size  # the largest stand at the first value 0
    moved = [jnp.take_along_axis(y, place[..., None, :], -1) for y in (x, adjoint(yh))]
    return tuple(jnp.where(zero[..., None, :], y, x) for x, y in zip(pairs, moved, strict=True))


# ---------------------------------------------------------------- the factorizations


@partial(jax.jit, static_argnums=(1, 2))
def framed_eigh(a, primitive, params):
    """Compute eigenvectors and eigenvalues, and the hidden results `frame` and `again`, 0 in the vectors' shape."""
    v, w = primitive.bind(a, **dict(params))
    hidden = v * 0
    return v, w, hidden, hidden


@jax.jit
def evenly_framed_eigh(a):
    """Do the same, for eigenvalues that share their derivative evenly where they are equal."""
    v, w = lax.linalg.eigh(a, symmetrize_input=False)
    hidden = v * 0
    return v, w, hidden, hidden


@partial(jax.jit, static_argnums=(1, 2))
def framed_svd(a, primitive, params):
    """Compute a singular value decomposition, and the hidden results `left`, `right` and `again`, all 0."""
    s, u, vh = primitive.bind(a, **dict(params))
    left, right = u[..., : s.shape[-1]] * 0, adjoint(vh)[..., : s.shape[-1]] * 0
    return s, u, vh, left, right, u[..., :1] * vh[..., :1, :] * 0


def factorized(jaxpr, name: str):
    """Find the primitive in the program of a framed factorization, its parameters, and where the batch is.

    Returns:
      The primitive, its parameters, and the order of the matrix's axes with the batch first.
    """
    (equation,) = (eqn for eqn in jaxpr.eqns if eqn.primitive.name == name)
    return equation.primitive, equation.params, transposed_inputs(jaxpr)[0]


def arrived(frames, vectors, values, g):
    """Take the vectors that came back along with the slopes g.

    If they came back more than once, or none did though equal values have unlike slopes, g is NaN.

    Returns:
      The vectors, and the slopes.
    """
    one = jnp.all(jnp.stack([_has_unit_columns(frame) for frame in frames]), 0)
    vectors = [jnp.where(one[..., None, None], x, y) for x, y in zip(frames, vectors, strict=True)]
    told = one | jnp.all(share_slope(values, g), (-2, -1))
    return vectors, jnp.where(told[..., None], g, jnp.nan)


def averaged(frame, values, g):
    """Give equal values the mean of unlike slopes, unless vectors came back to which the slopes belong."""
    same = _pairs(jnp.equal, _groups(values)).astype(g.dtype)
    mean = jnp.sum(same * g[..., None, :], -1) / jnp.sum(same, -1)
    stays = jnp.all(share_slope(values, g), (-2, -1))
    stays = stays if frame is None else stays | _has_unit_columns(frame)
    return jnp.where(stays[..., None], g, mean)


def _has_unit_columns(frame):
    squares = jnp.sum(jnp.real(frame * jnp.conj(frame)), -2)
    return jnp.max(jnp.abs(squares - 1), -1, initial=0) < 1e-2
