"""Functions of matrices that solve an equation: derivatives of the equation, not of JAX's way to the solution.

The ways go through Schur forms and singular vectors, which have no derivative at equal values though the solution has
one, or through a Cholesky factorization that reads one triangle, of which the derivative is not told.
"""

from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy import linalg

from diffprog._jax_internals import jax_functions, jaxpr_as_fun, weakref_lru_cache
from diffprog._jax_internals.jaxprs import replaced, runs_any, trace_to_closed_jaxpr
from diffprog._jax_internals.sizes import are_known
from diffprog._rules.jax_functions import batch_first, differentiated_as
from diffprog._rules.linear_algebra.matrices import (
    adjoint,
    columns,
    conj,
    diagonal,
    diagonal_matrix,
    lower,
    matmul,
    rows,
    transpose,
    upper,
)
from diffprog._rules.linear_algebra.spectral_sums import have_equals, no_derivative_where
from diffprog._tracer.rules import rule_of_function
from diffprog._tracer.vjp import run_taped
from diffprog._util.lists import expand

# ---------------------------------------------------------------- Sylvester's equation


def _sylvester(a, b, c, solve):
    """Solve A X + X B = C by `solve`, whose own derivative is not asked for."""
    fixed_a, fixed_b = lax.stop_gradient((a, b))
    return lax.custom_linear_solve(
        lambda x: matmul(a, x) + matmul(x, b),
        c,
        solve=lambda _, c: solve(fixed_a, fixed_b, c),
        transpose_solve=lambda _, c: solve(transpose(fixed_a), transpose(fixed_b), c),
    )


def _shapes_of_sylvester(inputs, outputs):
    *batch, m, n = outputs[0].shape
    return tuple(batch), [(m, m), (n, n), (m, n)]


def _solves_sylvester(args, found):
    a, b, c = args
    return np.allclose(a @ found + found @ b, c, atol=1e-3)


def _as_sylvester(args, jaxpr):
    orders = batch_first(jaxpr, _shapes_of_sylvester, _solves_sylvester)
    method = "schur" if runs_any(jaxpr, "schur") else "eigen"

    def program(results, *args):
        solution = results[0]
        with_batch = lambda x: jnp.broadcast_to(x, (*solution.shape[:-2], *x.shape[-2:]))
        a, b, c = (with_batch(jnp.transpose(x, order)) for x, order in zip(args, orders, strict=False))
        solved = _sylvester(a, b, c, lambda *args: linalg.solve_sylvester(*args, method=method, tol=0.0))
        return [jnp.where(jnp.isnan(solution), solution, solved)]  # NaN is JAX's word for no solution

    return orders and program


differentiated_as(jax_functions.solve_sylvester, _as_sylvester)

# ---------------------------------------------------------------- square roots


def _is_root(args, found):
    return np.allclose(found @ found, args[0], atol=1e-3)


def _as_root(args, jaxpr):
    """Differentiate S S = A as S dS + dS S = dA."""
    orders = batch_first(jaxpr, lambda inputs, outputs: (outputs[0].shape[:-2], [outputs[0].shape[-2:]]), _is_root)

    def program(results, a):
        (root,) = results
        right = jnp.transpose(a, orders[0]).astype(root.dtype)
        return [_sylvester(root, root, right, lambda *args: linalg.solve_sylvester(*args, tol=0.0))]

    return orders and program


differentiated_as(jax_functions.sqrtm, _as_root)

# ---------------------------------------------------------------- functions of matrices


@weakref_lru_cache
def _with_doubt(jaxpr):
    """Let a recurrence over a Schur form have no derivative where eigenvalues are equal: NaN."""

    def program(values, form):
        eigenvalues = jnp.diagonal(form, axis1=-2, axis2=-1)
        equal = jnp.any(have_equals(lax.stop_gradient(eigenvalues)), -1)[..., None, None]
        return jaxpr_as_fun(jaxpr)(no_derivative_where(equal, values), no_derivative_where(equal, form))

    return jax.jit(program)


@rule_of_function(jax_functions.parlett)
def _parlett(run, needs_grad, args, jaxpr):
    """Differentiate Parlett's recurrence, of which `funm` is made, with distinct eigenvalues.

    It divides by their differences, and of equal ones it knows the function's values, but not its slopes.
    """
    results, taped = run_taped(_with_doubt(jaxpr), args, needs_grad)
    return results, taped.active, lambda cotangents: expand(taped.pull(cotangents), needs_grad)


# ---------------------------------------------------------------- polar factors


def _symmetric_sylvester(p, c):
    """Solve P X + X P = C for a Hermitian P."""
    values, vectors = lax.stop_gradient(jnp.linalg.eigh(p))

    def solve(v, c):
        sums = columns(values, c.shape) + rows(values, c.shape)
        return matmul(v, matmul(adjoint(v), c, v) / sums.astype(c.dtype), adjoint(v))

    return lax.custom_linear_solve(
        lambda x: matmul(p, x) + matmul(x, p),
        c,
        solve=lambda _, c: solve(vectors, c),
        transpose_solve=lambda _, c: solve(jnp.conj(vectors), c),
    )


def _tall_polar(u, p, da):
    """Differentiate A = U P with independent columns: U^H dA = W P + dP for the skew-Hermitian W = U^H dU."""
    inside = matmul(adjoint(u), da)
    turn = _symmetric_sylvester(p, inside - adjoint(inside))
    du, dp = matmul(u, turn), inside - matmul(turn, p)
    if u.shape[-2] > u.shape[-1]:
        du = du + adjoint(jnp.linalg.solve(p, adjoint(da - matmul(u, inside))))
    return du, dp


def _polar(u, p, a, right):
    """Compute a linear function of A that moves as the polar factors do: A = U P, or P U."""
    if not right:
        return tuple(map(adjoint, _polar(adjoint(u), p, adjoint(a), True)))
    if u.shape[-2] >= u.shape[-1]:
        return _tall_polar(u, p, a)
    other = matmul(u, p, adjoint(u))  # A = Q U, and P = U^H Q U
    to_u, to_q = _tall_polar(adjoint(u), other, adjoint(a))
    parts = matmul(to_u, other, u), matmul(adjoint(u), to_q, u)
    return adjoint(to_u), parts[0] + adjoint(parts[0]) + parts[1]


def _shapes_of_polar(inputs, outputs):
    unitary = outputs[0].shape
    return unitary[:-2], [unitary[-2:]]


def _is_unitary_factor(args, found):
    (a,), u = args, found
    p = np.conj(np.swapaxes(u, -1, -2)) @ a if u.shape[-2] >= u.shape[-1] else u @ np.conj(np.swapaxes(a, -1, -2))
    return np.allclose(p, np.conj(np.swapaxes(p, -1, -2)), atol=1e-3)


@weakref_lru_cache
def _is_right_polar(jaxpr, order) -> bool:
    """Whether A = U P rather than P U; sizes tell but for square matrices, on one of which the program is run."""
    u, p = (aval.shape[-2:] for aval in jaxpr.out_avals)
    if u[0] != u[1]:
        return p[0] == u[1]
    draw = np.random.default_rng(0).normal
    first, *others = jaxpr.in_avals
    a = np.asarray(draw(size=first.shape), first.dtype)
    with jax.ensure_compile_time_eval():
        u, p = map(np.asarray, jaxpr_as_fun(jaxpr)(a, *(np.zeros(x.shape, x.dtype) for x in others)))
    return np.allclose(u @ p, np.transpose(a, order), atol=1e-3)


def _as_polar(args, jaxpr):
    orders = batch_first(jaxpr, _shapes_of_polar, _is_unitary_factor)
    if orders is None:
        return None
    right = _is_right_polar(jaxpr, orders[0])
    return lambda results, a, *others: list(_polar(*results, jnp.transpose(a, orders[0]), right))


differentiated_as(linalg.polar, _as_polar)

# ---------------------------------------------------------------- positive definite systems


def _completed(a, low: bool):
    """Make the Hermitian matrices that one triangle tells."""
    beside = lower(a, -1) if low else upper(a, 1)
    return beside + adjoint(beside) + diagonal_matrix(jnp.real(diagonal(a)), a.dtype)


@weakref_lru_cache
def _triangle_read(jaxpr):
    """Find out which triangle a solve by a Cholesky factorization reads, by a change of the other one.

    Returns:
      The order of the matrices' axes in which the batch comes first, and whether the lower triangle is read.
    """
    aval, *others = jaxpr.in_avals
    rest = [np.ones(x.shape, x.dtype) for x in others]
    with jax.ensure_compile_time_eval():
        for i, j in combinations(range(aval.ndim), 2):
            order = (*(k for k in range(aval.ndim) if k not in (i, j)), i, j)
            shape = tuple(aval.shape[k] for k in order)
            if shape[-1] != shape[-2]:
                continue
            back = lambda x, order=order: np.transpose(x, np.argsort(order)).astype(aval.dtype)
            start = np.broadcast_to(np.eye(shape[-1]), shape)
            changes = np.zeros(shape), np.tril(np.ones(shape), -1) / 8, np.triu(np.ones(shape), 1) / 8
            at_start, below, above = (np.asarray(jaxpr_as_fun(jaxpr)(back(start + x), *rest)[0]) for x in changes)
            if np.isfinite(at_start).all() and np.array_equal(at_start, above) != np.array_equal(at_start, below):
                return order, np.array_equal(at_start, above)
    return None


def _told_hermitian(equation):
    """Conjugate the transposed system, where JAX says of a Hermitian matrix that it is symmetric."""
    if equation.primitive.name != "custom_linear_solve":
        return None
    jaxprs, lengths = equation.params["jaxprs"], equation.params["const_lengths"]

    def conjugate(jaxpr, num_constants):
        run = lambda *args: map(conj, jaxpr_as_fun(jaxpr)(*args[:num_constants], *map(conj, args[num_constants:])))
        return trace_to_closed_jaxpr(run, jaxpr.in_avals, "conjugate")

    transposed = {
        "vecmat": conjugate(jaxprs.matvec, lengths.matvec),
        "transpose_solve": conjugate(jaxprs.solve, lengths.solve),
    }
    return partial(equation.primitive.bind, **(equation.params | {"jaxprs": jaxprs._replace(**transposed)}))


@weakref_lru_cache
def _of_one_triangle(jaxpr):
    """Let a solve take matrices of which one triangle is what it reads, and the other goes with it."""
    found = _triangle_read(jaxpr)
    if found is None:
        return None
    order, low = found
    jaxpr = replaced(jaxpr, _told_hermitian)
    back = tuple(np.argsort(order))
    complete = lambda a: jnp.transpose(_completed(jnp.transpose(a, order), low), back)
    return jax.jit(lambda a, *args: jaxpr_as_fun(jaxpr)(complete(a), *args))


@rule_of_function(jax_functions.solve)
def _solve(run, needs_grad, args, jaxpr):
    """Differentiate `jax.scipy.linalg.solve(assume_a="pos")` as a function of the triangle that it reads.

    JAX's linear solve is told all of the matrix, and that a Hermitian one is symmetric.
    """
    if not are_known(args[0].shape) or not runs_any(jaxpr, "cholesky"):
        return None
    program = _of_one_triangle(jaxpr)
    if program is None:
        return None
    results, taped = run_taped(program, args, needs_grad)
    return results, taped.active, lambda cotangents: expand(taped.pull(cotangents), needs_grad)
