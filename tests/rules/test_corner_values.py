"""Corners at which JAX's own gradient is NaN or wrong, and the derivative exists: against closed forms and differences.

The systematic search over functions and corners is `tests.corners`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.scipy.sparse import linalg as sparse
from jax.scipy.special import i0, i1, i1e
from scipy.special import ivp

import diffprog as dp
from tests.rules.finite_differences import check

INF = np.inf


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def total(fun):
    return lambda *args: jnp.sum(fun(*args))


# ---------------------------------------------------------------- elementwise


def test_powers_zero_and_one_at_zero():
    monomials = lambda x: x ** jnp.array([0.0, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(dp.jacrev(monomials)(0.0), [0, 1, 0, 0])
    for second in (dp.jacrev(dp.jacrev(monomials)), jax.jacfwd(dp.jacrev(monomials))):
        np.testing.assert_array_equal(jax.jit(second)(0.0), [0, 0, 2, 0])
    assert dp.grad(lambda x: x**0.0)(0.0) == 0
    of_both = dp.grad(dp.grad(lambda x, y: x**y, 0), 1)
    np.testing.assert_allclose(of_both(2.0, 0.0), 1 / 2)  # d/dy of y x^(y-1) at y = 0


def test_modulus_of_infinite_and_of_huge_numbers():
    """x / |z| and y / |z|: of infinities the limits, and at 1e308 (1 + i), whose modulus overflows, the truth."""
    parts = jnp.array([[1, INF], [-INF, 2], [INF, INF], [1.7e308, 1.7e308], [3, 4], [0, 0]]).T
    modulus = lambda x, y: jnp.abs(lax.complex(x, y))
    half = 0.5**0.5
    found = jax.jit(dp.grad(total(modulus), (0, 1)))(*parts)
    np.testing.assert_allclose(found, np.transpose([[0, 1], [-1, 0], [half, half], [half, half], [0.6, 0.8], [0, 0]]))
    second = dp.grad(total(dp.grad(total(modulus))))(*parts)
    np.testing.assert_allclose(second[np.array([0, 1, 2, 4])], [0, 0, 0, 0.64 / 5], atol=1e-300)


# ---------------------------------------------------------------- special functions


def test_bessel_functions_at_zero():
    """I0 is computed as exp|x| i0e(x), whose kinks cancel: three derivatives against SciPy's recurrence."""
    x = jnp.array([0.0, 1e-9, -0.2, 0.3, -4.0])
    for order_of, fun in ((0, i0), (1, i1)):
        derivative = fun
        for n in range(1, 4):
            derivative = dp.grad(total(derivative))
            expected = ivp(order_of, np.asarray(x), n)
            np.testing.assert_allclose(jax.jit(derivative)(x), expected, rtol=1e-12, atol=1e-13, err_msg=f"order {n}")
    np.testing.assert_allclose(dp.grad(dp.grad(i1e))(0.0), -1)  # from the right, as of |x|


# ---------------------------------------------------------------- linear algebra


@pytest.mark.parametrize(("lower", "dtype"), [(True, complex), (False, float)])
def test_eigh_reads_one_triangle(lower, dtype):
    """Without symmetrization the other triangle has no effect: against differences, at second order too."""
    rng = np.random.default_rng(0)
    a = jnp.asarray(rng.standard_normal((3, 3)) + (1j * rng.standard_normal((3, 3)) if dtype is complex else 0))
    weights = jnp.arange(1.0, 4.0)

    def loss(a):
        vectors, values = lax.linalg.eigh(a, lower=lower, symmetrize_input=False)
        return jnp.sum(jnp.sin(values) * weights) + jnp.sum(jnp.abs(vectors[:, 0]) ** 2 * weights)

    check(loss, a, order=2)
    unread = jnp.triu(jnp.ones((3, 3)), 1) if lower else jnp.tril(jnp.ones((3, 3)), -1)
    np.testing.assert_array_equal(dp.grad(loss)(a) * unread, 0)


def test_iterative_solves_with_tiny_and_huge_cotangents():
    """The squared norm of the cotangent under- or overflows in float32; the solve is linear all the same."""
    a, b = np.float32([[4, 1, 0], [1, 3, 1], [0, 1, 5]]), np.ones(3, np.float32)

    def root(p):
        residual = lambda x: a @ x - p
        solve = lambda f, x: x - jnp.linalg.solve(a, f(x))
        return lax.custom_root(residual, b, solve, lambda f, y: sparse.cg(f, y)[0])

    for solution in (
        lambda b: sparse.cg(lambda v: a @ v, b)[0],
        lambda b: sparse.gmres(lambda v: a @ v, b)[0],
        lambda b: sparse.bicgstab(lambda v: a @ v, b)[0],
        root,
    ):
        loss = lambda scale, b, solution=solution: scale * jnp.sum(jnp.sin(solution(b)))
        gradient = jax.jit(dp.grad(loss, 1))
        expected = np.linalg.solve(a, np.cos(np.linalg.solve(a, b)))
        for scale in (1e-30, 1e30):
            ours = np.asarray(gradient(np.float32(scale), b), float) / scale
            np.testing.assert_allclose(ours, expected, rtol=2e-5)
