"""Least squares by Levenberg-Marquardt, held to closed forms and to SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from diffprog import optimize
from diffprog.optimize._methods.secular import damping

TIMES = np.linspace(0, 4, 15)


def decay(p, times=TIMES):
    return p[0] * jnp.exp(-p[1] * times) + p[2]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def observed():
    return 3 * np.exp(-1.3 * TIMES) + 0.5 + 0.05 * np.sin(17 * TIMES)


def test_the_damping_gives_steps_of_the_wanted_length(x64):
    generator = np.random.default_rng(0)
    numerators, denominators = generator.normal(size=8), 10.0 ** generator.uniform(-12, 3, size=8)
    for radius in (1e-6, 1e-2, 1.0, 1e3):
        t = damping(jnp.array(numerators), jnp.array(denominators), jnp.zeros(()), jnp.array(radius))
        np.testing.assert_allclose(np.linalg.norm(numerators / (denominators + t)), radius, rtol=0.011)
    assert damping(jnp.ones(2), jnp.ones(2), jnp.zeros(()), jnp.array(2.0)) == 0


def test_a_linear_problem_ends_at_its_solution(x64):
    generator = np.random.default_rng(1)
    design, target = generator.normal(size=(9, 4)), generator.normal(size=9)
    found = optimize.least_squares(lambda p: design @ p - target, jnp.zeros(4))
    np.testing.assert_allclose(found.parameters, np.linalg.lstsq(design, target)[0], rtol=1e-12)
    assert found.converged and found.num_steps <= 4


def test_a_fit_says_what_scipy_says(x64):
    y = observed()
    found = optimize.least_squares(lambda p: decay(p) - y, jnp.array([1.0, 0.3, 0.0]))
    fit, covariance = scipy.optimize.curve_fit(
        lambda t, *p: p[0] * np.exp(-p[1] * t) + p[2], TIMES, y, p0=[1, 0.3, 0], xtol=1e-14, ftol=1e-14
    )
    np.testing.assert_allclose(found.parameters, fit, rtol=1e-7)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-5)
    assert found.converged


@pytest.mark.parametrize("start", [[1.0, 0.3, 0.0], [5.0, 2.0, 0.1]])
@pytest.mark.parametrize(
    "bounds",
    [
        ([-np.inf] * 3, [2.0, np.inf, np.inf]),  # one active
        ([0, 0, 0.6], [10, 1.0, 0.9]),  # two active
        ([0, 0, 0], [10, 10, 10]),  # none active
        ([3.5, 0, -1], [np.inf, 1.2, 0.2]),  # three
    ],
)
def test_bounds_as_scipy(x64, bounds, start):
    y = observed()
    start = np.clip(start, *bounds)
    found = optimize.least_squares(lambda p: decay(p) - y, jnp.array(start), bounds=tuple(map(jnp.array, bounds)))
    inner = np.clip(start, np.nextafter(bounds[0], np.inf), np.nextafter(bounds[1], -np.inf))
    expected = scipy.optimize.least_squares(
        lambda p: p[0] * np.exp(-p[1] * TIMES) + p[2] - y, inner, bounds=bounds, ftol=1e-15, xtol=1e-15, gtol=1e-15
    )
    np.testing.assert_allclose(found.parameters, expected.x, rtol=1e-6)
    assert np.all(found.parameters >= np.array(bounds[0])) and np.all(found.parameters <= np.array(bounds[1]))
    assert found.converged and found.value <= expected.cost * (1 + 1e-12)


def test_more_parameters_than_residuals(x64):
    found = optimize.least_squares(
        lambda p: jnp.array([p[0] * p[1] - 2, jnp.sum(p**2) - 9]), jnp.array([1.0, 0.5, 2.0, -1.0])
    )
    np.testing.assert_allclose(found.residuals, 0, atol=1e-12)
    assert found.converged and np.all(np.isnan(found.covariance))


def test_parameters_that_residuals_do_not_tell_apart(x64):
    """Only a sum of two has an influence: the nearest of all minima is found, and nothing is said of either alone."""
    y = observed()
    found = optimize.least_squares(lambda p: decay([p[0], p[1], p[2] + p[3]]) - y, jnp.array([1.0, 0.3, 0.0, 0.0]))
    one = optimize.least_squares(lambda p: decay(p) - y, jnp.array([1.0, 0.3, 0.0]))
    np.testing.assert_allclose(found.value, one.value, rtol=1e-12)
    np.testing.assert_allclose(found.parameters[2], found.parameters[3], rtol=1e-6)
    assert found.converged and not np.any(np.asarray(found.standard_errors)[2:] < 1e4)


def test_residuals_with_a_singular_value_decomposition(x64):
    """A matrix whose singular values are wanted: residuals by the decomposition, derivatives by our own rules."""
    wanted = np.array([3.0, 2.0, 0.5])
    start = np.random.default_rng(2).normal(size=(4, 3))
    found = optimize.least_squares(lambda a: jnp.linalg.svd(a, compute_uv=False) - wanted, jnp.array(start))
    np.testing.assert_allclose(np.linalg.svd(found.parameters, compute_uv=False), wanted, rtol=1e-10)
    assert found.converged


def test_float32_ends_at_its_own_precision():
    y = observed().astype(np.float32)
    times = TIMES.astype(np.float32)
    found = optimize.least_squares(lambda p: decay(p, times) - y, jnp.array([1.0, 0.3, 0.0]))
    fit = scipy.optimize.curve_fit(lambda t, *p: p[0] * np.exp(-p[1] * t) + p[2], TIMES, observed(), p0=[1, 0.3, 0])[0]
    assert found.parameters.dtype == jnp.float32 and found.converged and found.num_steps < 20
    np.testing.assert_allclose(found.parameters, fit, rtol=1e-4)


def test_complex_parameters_of_a_pytree(x64):
    """A damped oscillation: a complex amplitude and a complex frequency."""
    p = {"amplitude": 1.5 - 0.5j, "rate": -0.4 + 2.1j}

    def signal(p):
        return p["amplitude"] * jnp.exp(p["rate"] * TIMES)

    y = np.asarray(signal(p))
    found = optimize.least_squares(lambda p: signal(p) - y, {"amplitude": 1.0 + 0j, "rate": -0.2 + 1.8j})
    for name, value in p.items():
        np.testing.assert_allclose(found.parameters[name], value, rtol=1e-10)


def test_rows_of_a_batch_end_by_themselves(x64):
    y = observed()
    starts = jnp.array([[1.0, 0.3, 0.0], [3.0, 1.3, 0.5], [10.0, 4.0, -2.0]])
    many = jax.jit(jax.vmap(lambda start: optimize.least_squares(lambda p: decay(p) - y, start)))(starts)
    for row, start in enumerate(starts):
        one = optimize.least_squares(lambda p: decay(p) - y, start)
        np.testing.assert_allclose(many.parameters[row], one.parameters, rtol=1e-7)
        assert int(many.num_steps[row]) == int(one.num_steps)
        # Under a transformation, residuals and Jacobian are asked once more, at the end.
        assert int(many.counts.function[row]) == one.evaluations["function"] + 1
    assert len(set(many.num_steps.tolist())) > 1


def test_where_residuals_are_not_finite_a_step_is_taken_back(x64):
    found = optimize.least_squares(lambda p: jnp.log(p) - jnp.array([0.0, 1.0]), jnp.array([4.0, 40.0]))
    np.testing.assert_allclose(found.parameters, [1, np.e], rtol=1e-10)
    assert found.converged


def test_without_acceleration_there_are_more_steps(x64):
    rosenbrock = lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])
    bent, straight = (
        optimize.least_squares(rosenbrock, jnp.array([-1.2, 1]), optimize.levenberg_marquardt(acceleration=a))
        for a in (True, False)
    )
    for found in (bent, straight):
        np.testing.assert_allclose(found.parameters, 1, rtol=1e-8)
    assert bent.evaluations["function"] < straight.evaluations["function"]
    assert straight.evaluations["hessian_vector"] == 0


def test_it_needs_residuals():
    with pytest.raises(ValueError, match="call least_squares"):
        optimize.minimize(lambda x: x**2, 1.0, optimize.levenberg_marquardt())
