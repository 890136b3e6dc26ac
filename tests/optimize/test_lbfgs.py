import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize as scipy_optimize

from diffprog import optimize


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def jennrich_sampson(x):
    """Where SciPy's L-BFGS-B stays on the plateau."""
    i = jnp.arange(1, 11)
    return jnp.sum((2 + 2 * i - jnp.exp(i * x[0]) - jnp.exp(i * x[1])) ** 2)


def powell_badly_scaled(x):
    return (1e4 * x[0] * x[1] - 1) ** 2 + (jnp.exp(-x[0]) + jnp.exp(-x[1]) - 1.0001) ** 2


@pytest.mark.parametrize("make", [optimize.lbfgs, optimize.lbfgsb])
def test_in_float64_it_finds_what_scipy_does_not(make):
    with jax.enable_x64(True):
        found = optimize.minimize(jennrich_sampson, np.array([0.3, 0.4]), make())
        np.testing.assert_allclose(found.value, 124.36218236, rtol=1e-9)
        assert found.converged and found.parameters.dtype == np.float64
        found = optimize.minimize(powell_badly_scaled, np.array([0.0, 1.0]), make())
        np.testing.assert_allclose(found.parameters, [1.098159e-5, 9.106146], rtol=1e-6)
        assert found.value < 1e-20


@pytest.mark.parametrize("make", [optimize.lbfgs, optimize.lbfgsb])
def test_no_more_evaluations_than_scipys_to_the_same_value(make):
    """Of Rosenbrock's function in 2 to 20 dimensions, to 1e-10 in float64."""
    ours, theirs = 0, 0
    with jax.enable_x64(True):
        for size in (2, 5, 20):
            start, asked = np.tile([-1.2, 1.0], size)[:size], []
            both = jax.jit(jax.value_and_grad(rosenbrock))

            def evaluate(x, both=both, asked=asked):
                value, gradient = both(x)
                asked.append(float(value))
                return float(value), np.asarray(gradient)

            options = {"maxcor": 10, "ftol": 0, "gtol": 1e-8}
            end = scipy_optimize.minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options).fun
            history = optimize.minimize(rosenbrock, start, make()).history
            target = min(end, history[-1]["value"]) + 1e-10  # in 5 dimensions there are two minima
            assert abs(end - history[-1]["value"]) < 1e-8
            theirs += next(i for i, value in enumerate(asked, 1) if value <= target)
            ours += next(row["gradient"] for row in history if row["value"] <= target)
    assert ours <= 1.05 * theirs  # chance decides single steps


def test_the_default_is_chosen_by_the_bounds():
    free = optimize.minimize(lambda x: jnp.sum((x - 2) ** 2), jnp.zeros(3))
    bounded = optimize.minimize(lambda x: jnp.sum((x - 2) ** 2), jnp.zeros(3), bounds=(None, 1.0))
    np.testing.assert_allclose(free.parameters, 2, rtol=1e-6)
    np.testing.assert_array_equal(bounded.parameters, 1)
    assert max(free.evaluations["gradient"], bounded.evaluations["gradient"]) <= 4


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"history_size": 0}, "history_size must be a whole number of at least 1"),
        ({"gradient_tolerance": -1.0}, "gradient_tolerance must be a part"),
        ({"value_tolerance": 1.0}, "value_tolerance must be a part"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, sentence):
    for make in (optimize.lbfgs, optimize.lbfgsb):
        with pytest.raises(ValueError, match=sentence):
            make(**settings)
