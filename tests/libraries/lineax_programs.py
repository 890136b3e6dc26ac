"""lineax: every solver, with respect to the operator and the right-hand side."""

import jax.numpy as jnp
import jax.random as jr
import lineax as lx

from tests.libraries.program import Program

A = jnp.eye(4) * 3 + 0.4 * jr.normal(jr.key(0), (4, 4))
TALL = jr.normal(jr.key(1), (5, 3))
B4, B5 = jnp.arange(1.0, 5.0), jnp.arange(1.0, 6.0)
D = jnp.array([2.0, -1.0, 3.0, 0.5])
WEIGHTS = jnp.array([1.0, -2.0, 0.5, 3.0, -1.5])


def solved(operator, solver):
    """Make the loss of (matrix, right-hand side) after a solve."""

    def loss(x):
        matrix, b = x
        value = lx.linear_solve(operator(matrix), b, solver).value
        return jnp.sum(jnp.sin(value) * WEIGHTS[: value.size])

    return loss


dense = lx.MatrixLinearOperator
symmetric = lambda m: dense(m @ m.T + jnp.eye(len(m)), lx.positive_semidefinite_tag)
negative = lambda m: dense(-m @ m.T - jnp.eye(len(m)), lx.negative_semidefinite_tag)
as_function = lambda m: lx.FunctionLinearOperator(lambda v: m @ v, lx.MatrixLinearOperator(m).in_structure())
tight = {"rtol": 1e-11, "atol": 1e-11}

PROGRAMS = {
    "LU": Program(solved(dense, lx.LU()), (A, B4), hessian=True),
    "QR, square": Program(solved(dense, lx.QR()), (A, B4), hessian=True),
    "QR, least squares": Program(solved(dense, lx.QR()), (TALL, B5), hessian=True),
    "QR, minimum norm": Program(solved(dense, lx.QR()), (TALL.T, B5[:3])),
    "SVD": Program(solved(dense, lx.SVD()), (A, B4), hessian=True),
    "SVD, least squares": Program(solved(dense, lx.SVD()), (TALL, B5)),
    "Cholesky": Program(solved(symmetric, lx.Cholesky()), (A, B4), hessian=True),
    "Cholesky of a negative operator": Program(solved(negative, lx.Cholesky()), (A, B4)),
    "Diagonal": Program(solved(lx.DiagonalLinearOperator, lx.Diagonal()), (D, B4), hessian=True),
    "Triangular": Program(
        solved(lambda m: dense(jnp.tril(m), lx.lower_triangular_tag), lx.Triangular()), (A, B4), hessian=True
    ),
    "Tridiagonal": Program(
        solved(lambda m: lx.TridiagonalLinearOperator(jnp.diag(m), jnp.diag(m, -1), jnp.diag(m, 1)), lx.Tridiagonal()),
        (A, B4),
        hessian=True,
    ),
    "CG": Program(solved(symmetric, lx.CG(**tight)), (A, B4), hessian=True),
    "NormalCG": Program(solved(dense, lx.Normal(lx.CG(**tight))), (A, B4)),
    "GMRES": Program(solved(dense, lx.GMRES(**tight)), (A, B4), hessian=True),
    "BiCGStab": Program(solved(dense, lx.BiCGStab(**tight)), (A, B4), hessian=True),
    "LSMR": Program(solved(dense, lx.LSMR(**tight)), (TALL, B5), tolerance=1e-6),
    "AutoLinearSolver": Program(solved(dense, lx.AutoLinearSolver(well_posed=True)), (A, B4), hessian=True),
    "a function as operator": Program(solved(as_function, lx.GMRES(**tight)), (A, B4)),
    "a Jacobian as operator": Program(
        lambda x: jnp.sum(
            lx.linear_solve(lx.JacobianLinearOperator(lambda y, _: x[0] @ jnp.sinh(y), x[1], None), x[1], lx.LU()).value
            ** 2
        ),
        (A, B4 / 4),
    ),
}
