"""Solutions of matrix equations at equal values too: first and second derivatives against differences of SciPy's."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.scipy import linalg

import diffprog as dp
from tests.rules.finite_differences import weighted
from tests.rules.test_factorizations import adjoint, both, float64, matrix  # noqa: F401  (a fixture)

STEP = 2e-3
FIRST, SECOND = np.array([1, -8, 0, 8, -1]) / 12, np.array([-1, 16, -30, 16, -1]) / 12  # of five points, errors h^4


def check_along(cases, *args, tolerance=1e-7):
    """Hold first and second derivatives along one direction, of the results times weights, against differences.

    Args:
      cases: pairs of a function of JAX and the same of NumPy.
      args: where to take all of them.
      tolerance: relative to the number, or to 1.
    """
    ways = [matrix(*x.shape, dtype=complex if jnp.iscomplexobj(x) else float, seed=5) for x in args]
    moved = lambda t: [x + t * way for x, way in zip(args, ways, strict=True)]

    def derivatives(fun):
        slope = dp.grad(lambda t: weighted(fun)(*moved(t)))
        return slope(0.0), dp.grad(slope)(0.0)

    found = jax.jit(lambda: [derivatives(fun) for fun, _ in cases])()
    for (_, reference), ours in zip(cases, found, strict=True):
        values = [
            weighted(lambda *args, of=reference: of(*map(np.asarray, args)))(*moved(k * STEP)) for k in range(-2, 3)
        ]
        expected = FIRST @ np.array(values) / STEP, SECOND @ np.array(values) / STEP**2
        np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance * 1e2)


def with_equal_eigenvalues(dtype):
    """A matrix that is not normal, with the eigenvalues 4, 4, 1."""
    v = matrix(3, 3, dtype=dtype) / 4 + jnp.eye(3)
    return v @ jnp.diag(jnp.array([4.0, 4, 1])) @ jnp.linalg.inv(v)


@both
def test_square_roots_of_matrices_with_equal_eigenvalues(dtype):
    for a in (jnp.eye(3, dtype=dtype), with_equal_eigenvalues(dtype), jnp.eye(3) + jnp.diag(jnp.array([0.5, 1]), 1)):
        check_along([(linalg.sqrtm, scipy.linalg.sqrtm)], a, tolerance=1e-6)


def test_functions_of_matrices_with_equal_eigenvalues_are_not_known():
    """NaN, and no rounding divided by rounding; of other matrices they are right."""
    exponential = partial(linalg.funm, func=jnp.exp)
    v = jnp.linalg.qr(matrix(3, 3))[0]
    slope = jax.jit(dp.grad(lambda a: jnp.real(jnp.sum(exponential(a) * jnp.arange(9.0).reshape(3, 3)))))
    for values in ([2.0, 2, 5], [1.0, 1, 1]):
        assert np.isnan(slope((v * jnp.array(values)) @ v.T)).any()
    check_along([(exponential, scipy.linalg.expm)], matrix(3, 3), tolerance=1e-6)


def test_batches_of_square_roots():
    """Three matrices of size three, whose sizes do not say which axis is the batch."""
    batch = jnp.stack([jnp.eye(3), with_equal_eigenvalues(float), matrix(3, 3) + 4 * jnp.eye(3)])
    slope = dp.grad(lambda a: jnp.real(jnp.trace(linalg.sqrtm(a) @ linalg.sqrtm(a.T))))

    def along(axis):
        all_of = jax.vmap(lambda a: jnp.real(jnp.trace(linalg.sqrtm(a) @ linalg.sqrtm(a.T))), axis)
        return jnp.moveaxis(dp.grad(lambda batch: jnp.sum(all_of(batch)))(jnp.moveaxis(batch, 0, axis)), axis, 0)

    found, expected = jax.jit(lambda: ([along(axis) for axis in (0, 1)], jax.lax.map(slope, batch)))()
    for gradient in found:
        np.testing.assert_allclose(gradient, expected, atol=1e-12)


@both
def test_equations_of_sylvester(dtype):
    """With equal eigenvalues, of matrices that are not of one size."""
    a, b, c = with_equal_eigenvalues(dtype), jnp.eye(2, dtype=dtype), matrix(3, 2, dtype=dtype)
    cases = [(linalg.solve_sylvester, scipy.linalg.solve_sylvester)]
    check_along(cases, a, b, c, tolerance=1e-6)


def test_equations_of_sylvester_for_a_batch_of_right_sides():
    a, b = jnp.diag(jnp.array([1.0, 2])), jnp.diag(jnp.array([3.0, 4]))
    by_eigenvalues = jax.vmap(partial(linalg.solve_sylvester, method="eigen"), (None, None, 0))
    reference = lambda a, b, c: np.stack([scipy.linalg.solve_sylvester(a, b, x) for x in c])
    check_along([(by_eigenvalues, reference)], a, b, matrix(2, 2, 2))


def test_an_equation_of_sylvester_without_a_solution():
    a = jnp.diag(jnp.array([1.0, 2]))
    loss = lambda a: jnp.sum(linalg.solve_sylvester(a, -a, jnp.ones((2, 2))))
    assert np.isnan(dp.grad(loss)(a)).all()


@pytest.mark.parametrize(("dtype", "shape"), [(float, (3, 3)), (complex, (3, 2)), (float, (2, 3))])
def test_polar_factors_at_equal_singular_values(dtype, shape):
    m, n = shape
    a = 2 * jnp.linalg.qr(matrix(3, 3, dtype=dtype))[0][:m, :n]
    ways = [("svd", "right"), ("svd", "left"), ("qdwh", "right" if m >= n else "left")]
    cases = [
        (partial(linalg.polar, method=way, side=side), partial(scipy.linalg.polar, side=side)) for way, side in ways
    ]
    check_along(cases, a)


@both
def test_positive_definite_solves_read_one_triangle(dtype):
    """Also of a matrix whose other triangle is another, and in the right side, which JAX gets wrong if complex."""
    a = matrix(3, 3, dtype=dtype)
    a = a @ adjoint(a) + 3 * jnp.eye(3) + matrix(3, 3, dtype=dtype, seed=1) / 8

    def case(low):
        lower = lambda a: np.tril(a, -1) + np.tril(a, -1).conj().T + np.diag(np.real(np.diag(a)))
        complete = lower if low else lambda a: lower(a.conj().T)
        ours = partial(linalg.solve, assume_a="pos", lower=low)
        return (
            lambda a, b: ours(a, b) + ours(a, b[:, 0])[:, None],
            lambda a, b: np.linalg.solve(complete(a), b) + np.linalg.solve(complete(a), b[:, :1]),
        )

    check_along([case(False), case(True)], a, matrix(3, 2, dtype=dtype))


def test_batches_of_positive_definite_solves():
    """Three matrices of size three, along any axis."""
    batch = jnp.stack([jnp.eye(3), 2 * jnp.eye(3) + 0.5, 4 * jnp.eye(3) + matrix(3, 3) / 4])
    solve = lambda a: jnp.sum(linalg.solve(a, jnp.arange(3.0), assume_a="pos") ** 2)
    along = lambda axis: dp.grad(lambda batch: jnp.sum(jax.vmap(solve, axis)(batch)))(jnp.moveaxis(batch, 0, axis))
    found, expected = jax.jit(lambda: ([along(axis) for axis in range(3)], jax.lax.map(dp.grad(solve), batch)))()
    for axis, gradient in enumerate(found):
        np.testing.assert_allclose(jnp.moveaxis(gradient, axis, 0), expected, atol=1e-12)


def test_other_solves_are_left_as_they_are():
    a, b = matrix(3, 3) + 4 * jnp.eye(3), matrix(3)
    slope = lambda solve: dp.grad(lambda a: jnp.sum(jnp.sin(solve(a, b))))(a)
    for assumed in ("sym", "her"):
        np.testing.assert_allclose(slope(partial(linalg.solve, assume_a=assumed)), slope(jnp.linalg.solve), atol=1e-14)


def test_single_precision():
    with jax.enable_x64(False):
        a = jnp.eye(3, dtype=np.float32)
        functions = [linalg.sqrtm, lambda a: linalg.polar(a)[1], lambda a: linalg.solve_sylvester(a, a, a @ a)]
        functions.append(lambda a: linalg.solve(a, a, assume_a="pos"))
        loss = lambda a: sum(
            jnp.real(jnp.sum(fun(a) * jnp.arange(9, dtype=a.dtype).reshape(3, 3))) for fun in functions
        )
        slope = dp.grad(loss)
        second = dp.grad(lambda a: jnp.sum(slope(a) ** 2))
        assert [x.dtype for x in jax.jit(lambda a: (slope(a), second(a)))(a)] == [np.float32] * 2


@both
def test_lu_of_a_matrix_whose_last_pivot_is_zero(dtype):
    """Nothing is divided by it, in square and wide matrices."""
    a = jnp.array([[1.0, 2, 3, 4], [2, 5, 6, 1], [4, 9, 12, 6]], dtype)
    for singular in (a[:, :3], a.at[2, 3].set(6)):
        check_along([(linalg.lu, scipy.linalg.lu)], singular)
    assert dp.grad(lambda a: jnp.sum(jnp.real(linalg.lu(a)[2])))(jnp.zeros((1, 1), dtype)) == 1
