"""Functions of matrices at structured matrices, against differences in float64.

What depends on a choice, as the signs of vectors, is left out of the numbers that are compared.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax import scipy as jsp

import diffprog as dp
from tests.corners.sweep import Finding

_GENERAL = np.array([[1.3, 0.4, -0.2], [0.7, -0.9, 0.5], [0.1, 0.6, 2.0]])
_WEIGHTS = np.array([[0.9, -0.4, 0.7], [0.3, 1.1, -0.8], [-0.6, 0.5, 1.3]])

MATRICES = {
    "general": _GENERAL,
    "symmetric": _GENERAL + _GENERAL.T,
    "positive definite": _GENERAL @ _GENERAL.T + np.eye(3),
    "identity": np.eye(3),
    "repeated eigenvalue": np.diag([2.0, 2.0, 1.0]),
    "zero": np.zeros((3, 3)),
    "rank one": np.outer([1.0, 2.0, -1.0], [1.0, 2.0, -1.0]),
    "triangular": np.triu(_GENERAL),
    "one by one": np.array([[1.7]]),
}
_SYMMETRIC = ("symmetric", "positive definite", "identity", "repeated eigenvalue", "zero", "rank one", "one by one")
_REGULAR = ("general", "positive definite", "identity", "repeated eigenvalue", "triangular", "one by one")
_DEFINITE = ("positive definite", "identity", "repeated eigenvalue", "one by one")
_ANY = tuple(MATRICES)


class MatrixRow(NamedTuple):
    """A function of a matrix to one of any shape, and the names of the matrices at which it is taken."""

    name: str
    fun: Callable
    matrices: tuple


def _project(a):
    w, v = jnp.linalg.eigh(a)
    return (v * jnp.exp(w)) @ v.T


def _one_triangle(a):
    v, w = lax.linalg.eigh(a, symmetrize_input=False)
    return jnp.stack([w, jnp.sum(v[:1] ** 2 * w, 0)])


def _side(a):
    return jnp.arange(1.0, a.shape[0] + 1) / a.shape[0]


def _tridiagonal(a):
    return jsp.linalg.eigh_tridiagonal(jnp.diag(a), jnp.diag(a, 1), eigvals_only=True)


ROWS = [
    MatrixRow("numpy.linalg.det", jnp.linalg.det, _ANY),
    MatrixRow("numpy.linalg.slogdet", lambda a: jnp.linalg.slogdet(a)[1], _REGULAR),
    MatrixRow("numpy.linalg.inv", jnp.linalg.inv, _REGULAR),
    MatrixRow("numpy.linalg.pinv", jnp.linalg.pinv, _REGULAR),
    MatrixRow("numpy.linalg.solve", lambda a: jnp.linalg.solve(a, _side(a)), _REGULAR),
    MatrixRow("numpy.linalg.lstsq", lambda a: jnp.linalg.lstsq(a, _side(a))[0], _REGULAR),
    MatrixRow("numpy.linalg.cholesky", jnp.linalg.cholesky, _DEFINITE),
    MatrixRow("numpy.linalg.eigvalsh, trace of sine", lambda a: jnp.sum(jnp.sin(jnp.linalg.eigvalsh(a))), _SYMMETRIC),
    MatrixRow("numpy.linalg.eigh, exponential", _project, _SYMMETRIC),
    MatrixRow(
        "lax.linalg.eigh, one triangle", _one_triangle, ("general", "positive definite", "triangular", "one by one")
    ),
    MatrixRow("numpy.linalg.eigvals, trace of sine", lambda a: jnp.sum(jnp.sin(jnp.linalg.eigvals(a))).real, _REGULAR),
    MatrixRow("numpy.linalg.svdvals, sum of squares", lambda a: jnp.sum(jnp.linalg.svdvals(a) ** 2), _ANY),
    MatrixRow("numpy.linalg.qr", lambda a: jnp.abs(jnp.linalg.qr(a)[1]), _REGULAR),
    MatrixRow("numpy.linalg.norm, Frobenius", jnp.linalg.norm, _ANY),
    MatrixRow("numpy.linalg.norm, nuclear", lambda a: jnp.linalg.norm(a, "nuc"), _REGULAR),
    MatrixRow("numpy.linalg.norm, largest singular value", lambda a: jnp.linalg.norm(a, 2), _ANY),
    MatrixRow("numpy.linalg.norm, 1", lambda a: jnp.linalg.norm(a, 1), _ANY),
    MatrixRow("numpy.linalg.cond", jnp.linalg.cond, ("general", "positive definite", "triangular")),
    MatrixRow("numpy.linalg.matrix_power, 3", lambda a: jnp.linalg.matrix_power(a, 3), _ANY),
    MatrixRow("numpy.linalg.matrix_power, -2", lambda a: jnp.linalg.matrix_power(a, -2), _REGULAR),
    MatrixRow("numpy.linalg.vector_norm", lambda a: jnp.linalg.vector_norm(a, axis=0), _ANY),
    MatrixRow("scipy.linalg.expm", jsp.linalg.expm, _ANY),
    MatrixRow("scipy.linalg.polar", lambda a: jsp.linalg.polar(a)[0], _REGULAR),
    MatrixRow("scipy.linalg.lu", lambda a: jsp.linalg.lu(a)[2], ("general", "positive definite", "triangular")),
    MatrixRow("scipy.linalg.lu_solve", lambda a: jsp.linalg.lu_solve(jsp.linalg.lu_factor(a), _side(a)), _REGULAR),
    MatrixRow("scipy.linalg.cho_solve", lambda a: jsp.linalg.cho_solve(jsp.linalg.cho_factor(a), _side(a)), _DEFINITE),
    MatrixRow("scipy.linalg.solve_triangular", lambda a: jsp.linalg.solve_triangular(a, _side(a)), _REGULAR),
    MatrixRow(
        "scipy.linalg.solve_triangular, unit diagonal",
        lambda a: jsp.linalg.solve_triangular(a, _side(a), lower=True, unit_diagonal=True),
        _ANY,
    ),
    MatrixRow("scipy.linalg.eigh_tridiagonal", _tridiagonal, ("general", "symmetric", "positive definite")),
    MatrixRow("scipy.linalg.sqrtm", lambda a: jsp.linalg.sqrtm(a).real, ("positive definite",)),
    MatrixRow("scipy.linalg.schur", lambda a: jnp.diag(jsp.linalg.schur(a)[0]), ("symmetric", "positive definite")),
    MatrixRow("scipy.linalg.hessenberg", lambda a: jnp.abs(jsp.linalg.hessenberg(a)), ("general", "symmetric")),
]


def sweep_matrices(row: MatrixRow) -> Iterator[Finding]:
    """Yield one finding for each matrix and order: the largest difference from the truth, or None if there is none."""
    loss = lambda a: jnp.sum(row.fun(a) * np.resize(_WEIGHTS, jax.eval_shape(row.fun, a).shape))
    directed = lambda grad: lambda a: jnp.sum(jnp.cos(jnp.arange(a.size)).reshape(a.shape) * grad(loss)(a))
    with jax.enable_x64(True):
        for along, ours, theirs in (((0,), loss, loss), ((0, 0), directed(dp.grad), directed(jax.grad))):
            truth, gradient, of_jax = _differences(ours), jax.jit(dp.grad(ours)), jax.jit(jax.grad(theirs))
            for name in row.matrices:
                yield _judge(row.name, name, along, truth, gradient, of_jax)


def _judge(name, matrix, along, differences, gradient, of_jax):
    a = jnp.asarray(MATRICES[matrix])
    truth, exists = differences(a)
    scale = float(np.max(np.abs(truth), initial=1))

    def error(grad):
        try:
            return float(jnp.max(jnp.abs(grad(a) - truth))) / scale
        except Exception:  # it has no derivative there
            return float("nan")

    return Finding(name, (matrix,), along, 0.0 if exists else None, error(gradient), error(of_jax), True, 1e-5)


def _differences(fun):
    """Make the differences of fourth order of a function, and whether those of either side agree with them."""
    h = 1e-3
    steps = np.array([-2, -1, 0, 1, 2]) * h
    along = jax.jit(jax.vmap(jax.vmap(lambda a, t, by: fun(a + by * t), (None, None, 0)), (None, 0, None)))

    def differences(a):
        at = np.asarray(along(a, jnp.eye(a.size).reshape(a.size, *a.shape), steps)).T
        central = (8 * (at[3] - at[1]) - (at[4] - at[0])) / (12 * h)
        sides = (4 * at[3] - at[4] - 3 * at[2]) / (2 * h), -(4 * at[1] - at[0] - 3 * at[2]) / (2 * h)
        scale = np.max(np.abs(central), initial=1)
        exists = np.isfinite(central).all() and all(np.max(np.abs(side - central)) < 1e-3 * scale for side in sides)
        return central.reshape(a.shape), bool(exists)

    return differences
