"""Eigenvalues, trace, spectrum, noise and advice, against dense linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffprog.optimize import Descent, Sharpness, curvature, rates
from diffprog.optimize._curvature.advice import advise
from tests.compilations import counted

RNG = np.random.default_rng(0)


def network(parameters, data):
    inputs, targets = data
    hidden = jnp.tanh(inputs @ parameters["a"] + parameters["b"])
    hidden = jnp.tanh(hidden @ parameters["c"])
    return jnp.mean((hidden @ parameters["d"] - targets) ** 2)


def setting(dtype=np.float32, width=16):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(20, 5))
    targets = 1.5 * np.sin(inputs @ rng.normal(size=5))
    parameters = {
        "a": rng.normal(size=(5, width)) / 5**0.5,
        "b": np.zeros(width),
        "c": rng.normal(size=(width, width)) / width**0.5,
        "d": rng.normal(size=width) / width**0.5,
    }
    return jax.tree.map(lambda x: jnp.asarray(x.astype(dtype)), (parameters, (inputs, targets)))


def dense(objective, parameters):
    flat, unravel = jax.flatten_util.ravel_pytree(parameters)
    return np.asarray(jax.hessian(lambda x: objective(unravel(x)))(flat), np.float64)


@pytest.mark.parametrize(
    "dtype, tolerance, engine",
    [(np.float32, 1e-4, "diffprog"), (np.float32, 1e-4, "jax"), (np.float64, 1e-8, "diffprog")],
)
def test_eigenvalues_of_a_network(dtype, tolerance, engine):
    with jax.enable_x64(dtype == np.float64):
        parameters, data = setting(dtype)
        eigenvalues, eigenvectors = np.linalg.eigh(dense(lambda p: network(p, data), parameters))
        found = curvature(network, parameters, data, tolerance=tolerance, engine=engine)
        scale = np.abs(eigenvalues).max()
        np.testing.assert_allclose(found.largest, eigenvalues[:-4:-1], atol=2 * tolerance * scale)
        np.testing.assert_allclose(found.smallest, eigenvalues[:3], atol=2 * tolerance * scale)
        assert np.all(found.largest_errors <= tolerance * scale)
        assert found.num_parameters == 368
        vector, _ = jax.flatten_util.ravel_pytree(found.eigenvectors[0])
        assert abs(np.asarray(vector) @ eigenvectors[:, -1]) > 1 - 1e-3
        gradient, _ = jax.flatten_util.ravel_pytree(jax.grad(network)(parameters, data))
        np.testing.assert_allclose(found.gradient_norm, np.linalg.norm(gradient), rtol=1e-4)
        assert abs(found.trace - eigenvalues.sum()) <= 3 * found.trace_error
        assert found.trace_error < (2 / 16) ** 0.5 * np.linalg.norm(eigenvalues)  # Hutchinson alone has more


def test_all_eigenvalues_where_there_are_few_parameters_multiples_too():
    target = np.diag([5.0, 5, 5, 1, 0, -2])
    rotation = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    matrix = jnp.asarray(rotation @ target @ rotation.T, jnp.float32)
    found = curvature(lambda x: x @ matrix @ x / 2, jnp.ones(6), num_eigenvalues=6)
    np.testing.assert_allclose(found.largest, [5, 5, 5, 1, 0, -2], atol=1e-5)
    np.testing.assert_allclose(found.largest_errors, 0)
    np.testing.assert_allclose([found.trace, found.trace_error], [14, 0], atol=1e-5)
    np.testing.assert_allclose(found.density.weights, 1 / 6)
    assert found.num_products == 6 and found.advice.kind == "saddle"
    basis = np.stack([np.asarray(v) for v in found.eigenvectors])
    np.testing.assert_allclose(basis @ basis.T, np.eye(6), atol=1e-5)


@pytest.mark.slow
def test_trace_is_unbiased_and_its_error_is_the_deviation():
    eigenvalues = np.geomspace(0.01, 10, 200)
    rotation = np.linalg.qr(RNG.normal(size=(200, 200)))[0]
    matrix = jnp.asarray(rotation * eigenvalues @ rotation.T, jnp.float32)
    found = [
        curvature(lambda x: x @ matrix @ x / 2, jnp.ones(200), max_steps=20, num_probes=8, key=seed)
        for seed in range(40)
    ]
    traces, errors = np.array([c.trace for c in found]), np.array([c.trace_error for c in found])
    assert abs(traces.mean() - eigenvalues.sum()) < 3 * traces.std() / 40**0.5
    np.testing.assert_allclose(np.sqrt(np.mean(errors**2)), traces.std(), rtol=0.35)  # 40 of them: 1 / sqrt(80) = 0.11
    plain = [float(np.sum(eigenvalues**2) * 2 / 8) ** 0.5]  # Hutchinson alone, at most
    assert traces.std() < 0.7 * plain[0]


@pytest.mark.slow
def test_density_has_the_moments_of_the_spectrum():
    eigenvalues = np.concatenate([np.full(150, 0.1), np.linspace(0, 1, 100), [20.0, 50.0]])
    rotation = np.linalg.qr(RNG.normal(size=(252, 252)))[0]
    matrix = jnp.asarray(rotation * eigenvalues @ rotation.T, jnp.float32)
    found = curvature(lambda x: x @ matrix @ x / 2, jnp.ones(252), num_density_probes=20, max_steps=40, num_probes=2)
    density = found.density
    np.testing.assert_allclose(density.weights.sum(), 1, rtol=1e-6)
    below = np.cumsum(density.weights)[np.searchsorted(density.values, [0.05, 0.15, 2.0, 30.0]) - 1]
    expected = [np.mean(eigenvalues < x) for x in (0.05, 0.15, 2.0, 30.0)]
    errors = density.errors[np.searchsorted(density.values, [0.05, 0.15, 2.0, 30.0]) - 1]
    assert np.all(np.abs(below - expected) < 4 * errors + 1e-4), (below, expected, errors)
    grid = np.linspace(-20, 70, 20_001)
    np.testing.assert_allclose(np.trapezoid(density.smooth(grid), grid), 1, rtol=1e-3)


def test_complex_parameters_are_two_reals():
    center = jnp.array([1 + 2j, -1j])

    def objective(p):
        return jnp.sum(jnp.array([1.0, 3.0]) * jnp.abs(p["z"] - center) ** 2) + 0.5 * p["x"] ** 2

    found = curvature(
        objective, {"z": jnp.zeros(2, jnp.complex64), "x": 2.0, "n": 3, "name": "bowl"}, num_eigenvalues=5
    )
    np.testing.assert_allclose(found.largest, [6, 6, 2, 2, 1], atol=1e-5)
    vector = found.eigenvectors[0]
    assert vector["n"] == 3 and vector["name"] == "bowl" and vector["z"].dtype == jnp.complex64
    np.testing.assert_allclose(found.gradient_norm, np.sqrt(4 * 5 + 36 + 4), rtol=1e-6)


@pytest.mark.parametrize("batch_size", [7, 99])
def test_noise_scale_of_least_squares(batch_size):
    features = RNG.normal(size=(50, 3))
    targets = features @ np.ones(3) + 0.1 * RNG.normal(size=50)
    loss = lambda w, batch: jnp.mean((batch["x"] @ w - batch["y"]) ** 2) / 2
    data = {"x": jnp.asarray(features, jnp.float32), "y": jnp.asarray(targets, jnp.float32)}
    found = curvature(loss, jnp.zeros(3), data, batch_size=batch_size)
    gradients = -features * targets[:, None]
    np.testing.assert_allclose(found.noise.trace, np.trace(np.cov(gradients.T, bias=True)), rtol=1e-5)
    np.testing.assert_allclose(found.noise.scale, found.noise.trace / np.sum(gradients.mean(0) ** 2), rtol=1e-5)
    assert found.noise.is_mean and found.noise.num_examples == 50
    np.testing.assert_allclose(found.trace, np.trace(features.T @ features / 50), rtol=1e-5)
    total = curvature(lambda w, batch: 50 * loss(w, batch), jnp.zeros(3), data)
    assert total.noise.is_mean  # a batch of one has one example's loss times 50: a mean, of other losses
    summed = curvature(lambda w, batch: jnp.sum((batch["x"] @ w - batch["y"]) ** 2), jnp.zeros(3), data)
    assert not summed.noise.is_mean and "no mean of examples" in str(summed)


@pytest.mark.slow
def test_advice_for_a_convex_function_keeps_its_word():
    """The best settings, used by our loop on the function itself, do what is said."""
    with jax.enable_x64(True):
        function = lambda p: (1 - p[0]) ** 2 + 20 * (3 * p[1] - p[0] ** 2) ** 2
        advice = curvature(function, jnp.array([1.0, 1 / 3])).advice
        np.testing.assert_allclose(advice.condition, 376.447, atol=1e-3)
        ball = advice.plans[1]
        np.testing.assert_allclose([ball.alpha, ball.beta], [0.0069484780, 0.8135527691], atol=1e-9)
        np.testing.assert_allclose(advice.largest_step, 0.0038415955, atol=1e-9)
        np.testing.assert_allclose(advice.largest_step_with(0.99), 0.00764477, atol=1e-7)
        np.testing.assert_allclose(advice.rate_of(ball.alpha, ball.beta), ball.rate, atol=1e-7)
        assert advice.rate_of(advice.largest_step * 1.01, method="gradient descent") > 1
        start = jnp.array([1.0, 1 / 3]) + 1e-5 * jnp.array([0.6, 0.8])  # near enough for the quadratic
        for plan in advice.plans[:2]:
            loop = Descent(
                lambda p, step: (function(p), p), optax.sgd(plan.alpha, momentum=plan.beta or None), has_aux=True
            )
            _, history = loop.run(loop.init(start), int(plan.num_steps) + 50)
            error = np.linalg.norm(history.aux - np.array([1, 1 / 3]), axis=1)
            counted = np.flatnonzero(error > 1e-11)[-1] + 1
            assert 0.8 * plan.num_steps < counted <= plan.num_steps


@pytest.mark.parametrize(
    "smallest, largest, uncertainty, kind, words",
    [
        (1.0, 5.0, 1e-6, "convex", "gradient descent is enough"),
        (1e-3, 5.0, 1e-6, "convex", "momentum"),
        (1e-6, 5.0, 1e-9, "convex", "badly conditioned"),
        (1.0, 5e3, 0.8, "convex", "condition number at least 5000"),
        (1e-8, 5.0, 1e-6, "singular", "no linear rate is guaranteed"),
        (-1e-8, 5.0, 1e-6, "singular", "no linear rate is guaranteed"),
        (-2.0, 5.0, 1e-6, "saddle", "near a saddle no rate is guaranteed"),
        (-5.0, -1.0, 1e-6, "concave", "no direction curves upward"),
        (0.0, 0.0, 0.0, "flat", "no curvature"),
        (np.nan, np.nan, np.nan, "flat", "not finite: dp.diagnose"),
    ],
)
def test_advice_is_honest(smallest, largest, uncertainty, kind, words):
    advice = advise(smallest, largest, uncertainty)
    assert advice.kind == kind and words in str(advice)
    assert bool(advice.plans) == (kind == "convex")
    if kind == "convex":
        assert [plan.method for plan in advice.plans] == list(rates.METHODS)
        assert advice.plans[0].num_steps >= advice.plans[1].num_steps
    if kind in ("convex", "singular", "saddle"):
        assert advice.largest_step == 2 / largest


def test_second_call_compiles_nothing_and_sees_new_arrays():
    weights = {"w": jnp.array([1.0, 4.0])}
    objective = lambda x: jnp.sum(weights["w"] * x**2) / 2
    np.testing.assert_allclose(curvature(objective, jnp.ones(2)).largest[0], 4, rtol=1e-5)
    weights["w"] = jnp.array([1.0, 9.0])
    with counted() as compiled:
        found = curvature(objective, jnp.ones(2))
    assert compiled == [0]
    np.testing.assert_allclose(found.largest[0], 9, rtol=1e-5)


@pytest.mark.slow
def test_full_batch_descent_comes_to_the_edge_of_stability():
    parameters, data = setting()
    for alpha, reaches in ((0.2, True), (0.1, False)):
        sharpness = Sharpness(network, data)
        sharpness.measure(parameters, 0)
        loop = Descent(lambda p, step: network(p, step.data), optax.sgd(alpha))
        loop.run(loop.init(parameters), 1000, data=data, block_size=100, callback=sharpness)
        over = sharpness.over_border(alpha)
        assert sharpness.steps == list(range(0, 1001, 100))
        assert over[0] < 0.6
        if reaches:
            assert np.all(np.abs(over[2:] - 1) < 0.07)
        else:
            assert np.all(over < 0.8)
    whole = np.linalg.eigvalsh(dense(lambda p: network(p, data), parameters))
    np.testing.assert_allclose(sharpness.values[0], whole[-1], rtol=1e-2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(num_eigenvalues=0), "num_eigenvalues must be a whole number of at least 1"),
        (dict(max_steps=0), "max_steps must be a whole number of at least 1"),
        (dict(data={"x": jnp.ones(3), "y": jnp.ones(4)}), r"found lengths \[3, 4\]"),
        (dict(data=jnp.float32(1)), r"found lengths \[0\]"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        curvature(lambda x, data=None: jnp.sum(x**2), jnp.ones(2), **arguments)
