"""Rows of linear algebra.

Matrices are made well conditioned inside of the functions, so that the two formulas differ by rounding alone.
"""

import jax
import jax.numpy as jnp
from jax import lax

from tests.rules.rows.row import Row


def _adjoint(x):
    return jnp.conj(jnp.swapaxes(x, -1, -2))


def _positive(x):
    square = x @ _adjoint(x)
    return square + 3 * jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), square.shape)


def _spread(x):
    """`x` with singular values and eigenvalues that keep apart."""
    apart = 3 * jnp.eye(*x.shape[-2:], dtype=x.dtype) * jnp.arange(1, x.shape[-1] + 1).astype(x.dtype)[None]
    return x + jnp.broadcast_to(apart, x.shape)


def _triangular_solves(a, b):
    a = a + 3 * jnp.eye(3, dtype=a.dtype)
    wide = jnp.swapaxes(b, -1, -2)
    return [
        lax.linalg.triangular_solve(a, b, left_side=True, lower=True),
        lax.linalg.triangular_solve(a, b, left_side=True, transpose_a=True, conjugate_a=True),
        lax.linalg.triangular_solve(a, b, left_side=True, lower=True, conjugate_a=True, unit_diagonal=True),
        lax.linalg.triangular_solve(a, wide, lower=True, transpose_a=True, unit_diagonal=True),
        lax.linalg.triangular_solve(a, wide, transpose_a=False, conjugate_a=True),
    ]


def _qrs(x):
    x = _spread(x)
    pivoted = jax.scipy.linalg.qr(x[0, :, :2], pivoting=True)[:2]
    return jnp.linalg.qr(x), pivoted, jnp.linalg.qr(x[0, :, :2], mode="complete")


def _svds(x):
    return [jnp.linalg.svd(m, full_matrices=False) for m in (_spread(x), _spread(x[0].T))]


def _eigenvectors(x):
    return lax.linalg.eig(_spread(x), enable_eigvec_derivs=True)


def _tridiagonal_solve(below, middle, above, b):
    return lax.linalg.tridiagonal_solve(below, middle + 4, above, b)


def _solved_by_iteration(a, b):
    a = _positive(a)
    return jax.scipy.sparse.linalg.cg(lambda x: a @ x, b, tol=1e-14, maxiter=20)[0]


def _root(a):
    """The root of y^3 + a y - 1."""
    newton = lambda f, y: lax.fori_loop(0, 20, lambda _, y: y - f(y) / (3 * y**2 + lax.stop_gradient(a)), y)
    return lax.custom_root(lambda y: y**3 + a * y - 1, jnp.ones_like(a), newton, lambda g, y: y / g(jnp.ones_like(y)))


def _row(name, fun, *shapes, **more):
    """Rounding grows with the condition number, which is about 10 here."""
    return Row(name, fun, shapes, (-1.0, 1.0), tolerance=1e-11, why="rounding grows with the condition number", **more)


def _complex(name, fun, *shapes):
    """First order alone; the complex numbers come as two real arrays, so that the row compiles once."""
    count = len(shapes)

    def of_parts(*parts):
        return fun(*(lax.complex(x, y) for x, y in zip(parts[:count], parts[count:], strict=True)))

    return _row(f"{name}, complex", of_parts, *shapes, *shapes, order=1)


LINEAR_ALGEBRA = [
    _row("cholesky", lambda x: lax.map(lambda a: jnp.linalg.cholesky(_positive(a)), x), (2, 3, 3)),
    _complex("cholesky", lambda x: jnp.linalg.cholesky(_positive(x)), (2, 3, 3)),
    _row("triangular_solve", lambda a, b: lax.linalg.triangular_solve(_spread(a), b), (3, 3), (2, 3)),
    _complex("triangular_solve", _triangular_solves, (3, 3), (3, 2)),
    _row("lu", lambda x: lax.linalg.lu(_spread(x))[0], (2, 3, 3)),
    _complex("lu", lambda x: [lax.linalg.lu(m)[0] for m in (_spread(x), _spread(x).T)], (2, 3)),
    _row("qr", lambda x: jnp.linalg.qr(_spread(x)), (2, 4, 3)),
    _complex("qr", _qrs, (2, 3, 4)),
    _row("eigh", lambda x: jnp.linalg.eigh(_positive(_spread(x))), (2, 3, 3)),
    _complex("eigh", lambda x: jnp.linalg.eigh(_positive(_spread(x)), UPLO="U"), (2, 3, 3)),
    _row("svd", lambda x: jnp.linalg.svd(_spread(x), full_matrices=False), (3, 3)),
    _complex("svd", _svds, (2, 3, 4)),
    _complex("singular values", lambda x: jnp.linalg.svd(_spread(x), compute_uv=False), (2, 3, 4)),
    _row("eigvals", lambda x: jnp.linalg.eigvals(_spread(x)), (3, 3), order=1),
    _row("eig", _eigenvectors, (3, 3), order=1),
    _complex("eig", _eigenvectors, (3, 3)),
    _row("tridiagonal_solve", _tridiagonal_solve, (2, 4), (2, 4), (2, 4), (2, 4, 2)),
    _complex("tridiagonal_solve", _tridiagonal_solve, (2, 4), (2, 4), (2, 4), (2, 4, 2)),
    _row("solve", lambda a, b: jnp.linalg.solve(_spread(a), b), (3, 3), (3,)),
    _complex("solve", lambda a, b: jnp.linalg.solve(_spread(a), b), (2, 3, 3), (2, 3, 2)),
    _row("cg", _solved_by_iteration, (3, 3), (3,), order=1),
    _row("custom_root", _root, (3,)),
]
