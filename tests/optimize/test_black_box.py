import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize as scipy_optimize

from diffprog import optimize


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def sphere(x):
    return jnp.sum((x - 0.3) ** 2)


METHODS = {
    "random_search": (optimize.random_search(), 2000, 1e-6),
    "spsa": (optimize.spsa(), 3000, 1e-3),
    "nelder_mead": (optimize.nelder_mead(), 2000, 1e-6),
    "cma_es": (optimize.cma_es(), 2000, 1e-6),
}


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("bounds", [None, (-2.0, 0.5)])
@pytest.mark.parametrize("start", [(-1.2, 1.0), (0.4, 0.2, -1.0, 0.3)])
def test_nelder_mead_asks_as_often_as_scipys(start, bounds, adaptive):
    """The same simplices: after each step as many values were asked for, and the lowest is the same."""
    start = np.clip(np.array(start), -2, 0.5 if bounds else 2)
    steps, theirs = [], []
    scipy_optimize.minimize(
        lambda x: steps.append(None) or float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)),
        start,
        method="Nelder-Mead",
        bounds=None if bounds is None else [bounds] * len(start),
        callback=lambda intermediate_result: theirs.append((len(steps), intermediate_result.fun)),
        options={"adaptive": adaptive, "xatol": 1e-4, "fatol": 1e-4},
    )
    with jax.enable_x64(True):
        method = optimize.nelder_mead(adaptive=adaptive)
        found = optimize.minimize(rosenbrock, start, method, bounds=bounds)
    ours = [(row["function"], row["value"]) for row in found.history][1 : len(theirs) + 1]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-15)  # values of 1e-12 are differences of larger ones
    assert len(theirs) > 40 and found.converged and found.evaluations["gradient"] == 0


@pytest.mark.parametrize("name", METHODS)
def test_rows_of_a_batch_end_by_themselves_and_stay_in_the_box(name):
    """Rows with a minimum inside and on the border, each as if it were alone."""
    method, steps, tolerance = METHODS[name]
    uppers = jnp.array([1.0, 0.2, 5.0])

    def row(upper, key):
        return optimize.minimize(sphere, jnp.zeros(3), method, bounds=(-1.0, upper), key=key, max_steps=steps)

    keys = jax.random.split(jax.random.key(1), 3)
    many = jax.vmap(row)(uppers, keys)
    expected = jnp.minimum(0.3, uppers)
    assert np.all(many.parameters <= uppers[:, None]) and np.all(many.parameters >= -1)
    np.testing.assert_allclose(many.value, 3 * (expected - 0.3) ** 2, atol=tolerance)
    if name != "spsa":  # which has no end of its own
        assert np.all(many.converged) and len(set(many.num_steps.tolist())) > 1
    alone = row(uppers[1], keys[1])
    assert abs(int(alone.num_steps) - int(many.num_steps[1])) <= 0.1 * steps
    np.testing.assert_allclose(alone.value, many.value[1], atol=tolerance)
    assert many.evaluations["gradient"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", METHODS)
def test_what_is_counted_is_what_was_asked(name):
    calls = []

    def counted(x):
        jax.debug.callback(lambda _: calls.append(1), x[0])
        return sphere(x)

    found = optimize.minimize(counted, jnp.zeros(3), METHODS[name][0], max_steps=7, key=3)
    jax.effects_barrier()
    assert found.evaluations["function"] == len(calls)


@pytest.mark.parametrize("name", ["random_search", "spsa", "cma_es"])
def test_a_key_decides_everything(name):
    once, again, other = (
        optimize.minimize(sphere, jnp.zeros(3), METHODS[name][0], max_steps=5, key=key) for key in (1, 1, 2)
    )
    np.testing.assert_array_equal(once.parameters, again.parameters)
    assert not np.array_equal(once.parameters, other.parameters)


def test_spsa_descends_through_noise():
    """To the noise: the mean of ten ends is near the minimum, though single values are off by 0.1."""

    def noisy(x):
        bits = jax.random.key(jax.lax.bitcast_convert_type(jnp.sum(x), jnp.int32))
        return sphere(x) + 0.1 * jax.random.normal(bits)

    method = optimize.spsa(perturbation=0.2)
    rows = jax.vmap(lambda key: optimize.minimize(noisy, jnp.full(10, 3.0), method, key=key, max_steps=1000))
    found = rows(jax.random.split(jax.random.key(0), 10))
    assert sphere(jnp.mean(found.parameters, axis=0)) < 0.1 < sphere(jnp.full(10, 3.0))
    assert np.all(found.evaluations["function"] == 1 + 2 * (5 + 1000))


def test_random_search_is_slower_where_scales_differ():
    """What CMA-ES learns, it does not know: an ellipsoid of condition 1e4."""
    ellipsoid = lambda x: jnp.sum(jnp.array([1.0, 1e2, 1e4]) * x**2)
    start = jnp.ones(3)
    evaluations = [
        next(
            row["function"]
            for row in optimize.minimize(ellipsoid, start, method, key=0, max_steps=20_000).history
            if row["value"] < 1e-3
        )
        for method in (optimize.cma_es(), optimize.random_search())
    ]
    assert evaluations[0] < evaluations[1] / 3


@pytest.mark.parametrize(
    ("make", "settings", "sentence"),
    [
        (optimize.random_search, {"sigma": 0.0}, "sigma must be a positive number"),
        (optimize.random_search, {"num_points": 0}, "num_points must be a whole number"),
        (optimize.spsa, {"step": -1.0}, "step must be a positive number"),
        (optimize.nelder_mead, {"value_tolerance": 0.0}, "value_tolerance must be a positive number"),
        (optimize.cma_es, {"restarts": "often"}, "restarts must be one of none, ipop, bipop; found 'often'"),
        (optimize.cma_es, {"population_size": 3}, "population_size must be a whole number of at least 4"),
        (optimize.cma_es, {"value_tolerance": 2.0}, "value_tolerance must be a part"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**settings)


def test_functions_that_are_not_finite():
    """A wall of NaN is gone around; a function that is nowhere finite is said to be so."""
    walled = lambda x: jnp.where(x[0] > 0.2, jnp.nan, sphere(x))
    for name in ("random_search", "nelder_mead", "cma_es"):
        method, steps, _ = METHODS[name]
        found = optimize.minimize(walled, jnp.zeros(3), method, max_steps=steps, key=0)
        assert found.parameters[0] <= 0.2 and found.value < 0.02
        found = optimize.minimize(lambda x: jnp.nan * x[0], jnp.zeros(3), method, max_steps=steps, key=0)
        assert not found.converged and "not finite" in found.reason
