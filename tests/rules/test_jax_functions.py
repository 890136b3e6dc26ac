"""Rules for whole functions of JAX: right where the function's formula has no right derivative."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify
from jax.scipy.linalg import eigh_tridiagonal
from jax.scipy.special import betaln, spence, xlog1py, xlogy
from scipy.special import ivp, polygamma

import diffprog as dp
from diffprog._rules.linear_algebra import tridiagonal
from tests.rules.finite_differences import assert_close


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def total(fun):
    return lambda *args: jnp.sum(fun(*args))


def test_bessel_i0_of_numpy():
    x = jnp.array([0.0, 0.5, -2.0])
    second = dp.grad(total(dp.grad(total(jnp.i0))))
    np.testing.assert_allclose(jax.jit(second)(x), ivp(0, np.asarray(x), 2), rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(dp.grad(dp.grad(jnp.i0)))(x), ivp(0, np.asarray(x), 2), rtol=1e-12)


@pytest.mark.parametrize("fun", [betaln, jax.jit(betaln)], ids=["plain", "jit"])
def test_log_beta_at_equal_arguments(fun):
    """It sorts its arguments; a tie in halves gives four equal second derivatives."""
    a, b = jnp.array([1.5, 2.5, 0.5]), jnp.array([1.5, 2.5, 0.7])
    both = -polygamma(1, np.asarray(a + b))
    first = lambda a, b: dp.grad(total(fun), (0, 1))(a, b)
    forward = jax.jvp(first, (a, b), (jnp.ones(3), jnp.zeros(3)))[1]
    reverse = dp.grad(total(lambda a, b: first(a, b)[0]), (0, 1))(a, b)
    for found in (forward, reverse):
        np.testing.assert_allclose(found, [polygamma(1, np.asarray(a)) + both, both], rtol=1e-9)
    np.testing.assert_allclose(dp.grad(dp.grad(lambda a: betaln(a, 1.5)))(1.5), polygamma(1, 1.5) - polygamma(1, 3.0))
    assert np.isnan(dp.value_and_grad(betaln)(np.nan, 1.0)[0])


def test_a_maximum_elsewhere_splits_a_tie():
    assert dp.grad(lambda x: jnp.maximum(x, 1.0))(1.0) == 0.5


def test_dilogarithm():
    """Its slope is log(z) / (1 - z); JAX takes the logarithm of negative numbers on the way."""
    z = jnp.array([0.3, 0.9, 1.0, 1.1, 1.5, 2.0, 5.0, np.inf])
    near = np.abs(z - 1) < 1e-9
    w = np.where(near | np.isinf(z), 2, z)
    slopes = np.where(near, -1, np.where(np.isinf(z), 0, np.log(w) / (1 - w)))
    curvatures = np.where(near, 0.5, np.where(np.isinf(z), 0, (1 / w - 1 + np.log(w)) / (1 - w) ** 2))
    for fun in (spence, jax.jit(spence)):
        np.testing.assert_allclose(dp.grad(total(fun))(z), slopes, rtol=1e-13, atol=1e-300)
    squared = total(dp.grad(total(lambda z: spence(z) ** 2)))
    expected = 2 * (slopes**2 + np.asarray(spence(z)) * curvatures)[:-1]
    np.testing.assert_allclose(jax.jit(dp.grad(squared))(z[:-1]), expected, rtol=1e-11)
    np.testing.assert_allclose(jax.grad(lambda z: dp.grad(total(lambda z: spence(z) ** 2))(z).sum())(z[:-1]), expected)


def test_dilogarithm_batched_along_the_last_axis():
    """A square batch, which its sizes do not tell from its transpose."""
    z = jnp.linspace(0.2, 3.0, 9).reshape(3, 3)
    weights = jnp.arange(9.0).reshape(3, 3)
    loss = lambda z: jnp.sum(jax.vmap(spence, 1, 1)(z) * weights)
    np.testing.assert_allclose(dp.grad(loss)(z), weights * jnp.log(z) / (1 - z), rtol=1e-12)


# ---------------------------------------------------------------- tridiagonal matrices

D, E = np.array([3.0, 1.0, 2.0]), np.array([0.5, -0.8])
WEIGHTS = np.array([1.0, -2.0, 0.5])


def eigenvalues(d, e, **options):
    return eigh_tridiagonal(d, e, eigvals_only=True, **options)


def of_values(d, e):
    return jnp.sum(jnp.sin(eigenvalues(d, e)) * WEIGHTS)


def of_dense(d, e):
    return jnp.sum(jnp.sin(jnp.linalg.eigvalsh(jnp.diag(d) + jnp.diag(e, 1) + jnp.diag(e, -1))) * WEIGHTS)


def test_eigenvalues_of_tridiagonal():
    """The slopes are v_j^2 and 2 v_j v_(j+1)."""
    dense = np.diag(D) + np.diag(E, 1) + np.diag(E, -1)
    w, v = np.linalg.eigh(dense)
    g = np.cos(w) * WEIGHTS
    expected = v**2 @ g, 2 * (v[:-1] * v[1:]) @ g
    for gradient in (dp.grad(of_values, (0, 1)), dp.grad(jax.jit(of_values), (0, 1))):
        assert_close(gradient(D, E), expected, 1e-12)
    some = lambda d, e: jnp.sum(eigenvalues(d, e, select="i", select_range=(1, 2)) * WEIGHTS[:2])
    expected = v[:, 1:] ** 2 @ WEIGHTS[:2], 2 * (v[:-1, 1:] * v[1:, 1:]) @ WEIGHTS[:2]
    assert_close(jax.jit(dp.grad(some, (0, 1)))(D, E), expected, 1e-12)


def test_second_derivatives_of_tridiagonal():
    expected = jax.jit(jax.hessian(of_dense, (0, 1)))(D, E)
    for outer in (jax.jacfwd, dp.jacrev):
        found = jax.jit(outer(dp.grad(of_values, (0, 1)), (0, 1)))(D, E)
        assert_close(jax.tree.leaves(found), jax.tree.leaves(expected), 1e-11)


@pytest.mark.parametrize("axes", [(1, 1), (0, None)])
def test_batches_of_tridiagonal(axes):
    """Three matrices of size three, whose sizes do not say which axis is the batch."""
    d, e = np.stack([D, D + 1, D * E[0]]), np.stack([E, E / 2, E - 1])
    d, e = d.T if axes[0] else d, e[0] if axes[1] is None else e.T if axes[1] else e
    batch = lambda fun: lambda d, e: jnp.sum(jax.vmap(fun, axes)(d, e))
    expected = jax.grad(batch(of_dense), (0, 1))(d, e)
    assert_close(dp.grad(batch(of_values), (0, 1))(d, e), expected, 1e-11)


def test_vectors_of_tridiagonal():
    """In a loss that does not depend on their signs."""
    loss = lambda pair: jnp.sum(jnp.sin(pair[0]) * WEIGHTS) + jnp.sum(pair[1][0] ** 2 * WEIGHTS)
    dense = lambda d, e: loss(jnp.linalg.eigh(jnp.diag(d) + jnp.diag(e, 1) + jnp.diag(e, -1)))
    ours = dp.grad(lambda d, e: loss(eigh_tridiagonal(d, e)), (0, 1))(D, E)
    assert_close(ours, jax.grad(dense, (0, 1))(D, E), 1e-12)


def test_equal_eigenvalues_share_their_derivative():
    d, e = jnp.ones(3), jnp.zeros(2)
    assert_close(dp.grad(lambda d: jnp.sum(eigenvalues(d, e) ** 2))(d)[None], 2 * jnp.ones((1, 3)), 1e-12)
    assert_close(dp.grad(lambda d: eigenvalues(d, e)[0])(d)[None], jnp.ones((1, 3)) / 3, 1e-12)


def test_second_derivatives_of_tridiagonal_at_equal_eigenvalues():
    """Those of a symmetric function: the sum of squares is a polynomial in the diagonals."""
    ours = lambda d, e: jnp.sum(eigenvalues(d, e) ** 2)
    polynomial = lambda d, e: jnp.sum(d**2) + 2 * jnp.sum(e**2)

    def second(fun, d, e):
        slope = dp.grad(fun, (0, 1))
        return dp.grad(lambda d, e: slope(d, e)[0] @ WEIGHTS + slope(d, e)[1] @ WEIGHTS[:2], (0, 1))(d, e)

    for d in (jnp.ones(3), jnp.array([1.0, 1, 3])):
        assert_close(second(ours, d, jnp.zeros(2)), second(polynomial, d, jnp.zeros(2)), 1e-12)


def test_arguments_that_are_numbers_of_python():
    """The rule of a whole function gets them as they are."""
    functions = [xlogy, xlog1py, jnp.hypot, jnp.logaddexp, jnp.logaddexp2, betaln]
    for fun in functions:
        for argnums in (0, 1):
            ours, theirs = (d.grad(fun, argnums)(0.4, 0.7) for d in (dp, jax))
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=fun.__name__)
            assert jax.typeof(ours) == jax.typeof(theirs), fun.__name__


def test_a_function_of_the_same_name_is_another():
    def eigh_tridiagonal(d, e):
        for _ in range(8):
            d = jnp.sin(d)
        return d

    ours = dp.grad(total(jax.jit(eigh_tridiagonal)))(D, E)
    np.testing.assert_allclose(ours, jax.grad(total(jax.jit(eigh_tridiagonal)))(D, E), rtol=1e-14)


def test_recordings_keep_the_function_whole():
    recording = dp.record(of_values)(D, E)
    recording.backward()
    assert "while" not in {node.primitive for node in recording.nodes}


def test_a_batch_that_is_not_found_is_refused(monkeypatch):
    monkeypatch.setattr(tridiagonal, "batch_first", lambda *args: None)
    with pytest.raises(NotImplementedError, match=r"eigh_tridiagonal under jax\.vmap"):
        dp.grad(of_values)(D, E)


def test_what_is_derived_from_a_function_is_no_such_function():
    """JAX calls a JVP, a linear part and a program with checks by the name of the function that they come from."""
    a = jnp.asarray(np.random.default_rng(0).normal(size=(5, 5)))
    forward = lambda f: lambda *xs: jnp.sum(jax.jvp(f, xs, tuple(map(jnp.cos, xs)))[1])
    for f, *xs in (
        (jnp.linalg.det, a),
        (jnp.hypot, a[0], a[1]),
        (jax.nn.relu, a),
        (jax.jit(jnp.i0), a),
        (xlogy, a**2, a**2 + 1),
    ):
        along = lambda grad, f=f, xs=xs: grad(forward(f), tuple(range(len(xs))))(*xs)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9), along(dp.grad), along(jax.grad))
        turned = lambda grad, f=f, xs=xs: grad(lambda *xs: jnp.sum(jnp.sin(jax.linearize(f, *xs)[1](*xs))))(*xs)
        np.testing.assert_allclose(turned(dp.grad), turned(jax.grad), rtol=1e-9)

    def checked(x):
        def user(x):
            checkify.check(jnp.all(x < 99), "too large")
            return jnp.sum(jax.nn.relu(jnp.log(x) / 2))

        return checkify.checkify(user, errors=checkify.all_checks)(x)[1]

    np.testing.assert_allclose(dp.grad(checked)(a[0] ** 2), jax.grad(checked)(a[0] ** 2))
