import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diffprog as dp
from diffprog import optimize
from diffprog.optimize._search import loop
from tests import compilations


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


START = jnp.array([-1.2, 1.0])


def test_an_optax_transformation_walks_as_by_hand():
    found = optimize.minimize(rosenbrock, START, optax.adam(0.05), max_steps=50, keeps_path=True)
    transformation = optax.adam(0.05)
    point, state = START, transformation.init(START)
    path, values = [point], [rosenbrock(point)]
    for _ in range(50):
        updates, state = transformation.update(jax.grad(rosenbrock)(point), state, point)
        point = optax.apply_updates(point, updates)
        path.append(point)
        values.append(rosenbrock(point))
    lowest = int(np.argmin(values))
    np.testing.assert_allclose(found.parameters, path[lowest], rtol=1e-4)
    np.testing.assert_allclose(found.path[lowest], path[lowest], rtol=1e-4)
    assert found.evaluations == {"function": 51, "gradient": 51, "jacobian": 0, "hessian_vector": 0}
    assert [row["step"] for row in found.history] == list(range(51))
    np.testing.assert_allclose([row["value"] for row in found.history], np.minimum.accumulate(values), rtol=1e-4)
    assert not found.converged and found.reason == "the steps were used up, after 50 steps"
    assert repr(found).endswith("the steps were used up, after 50 steps; function 51, gradient 51)")


def test_a_second_call_compiles_nothing():
    center = [jnp.array([1.0, 2.0])]

    def run():
        return optimize.minimize(lambda x: jnp.sum((x - center[0]) ** 2), jnp.zeros(2), optax.adam(0.1), max_steps=300)

    run()
    center[0] = jnp.array([3.0, -1.0])  # what the function reads now, not when it was compiled
    with compilations.counted() as count:
        found = run()
    assert count == [0]
    np.testing.assert_allclose(found.parameters, [3, -1], atol=1e-2)


def test_any_pytree_complex_numbers_and_leaves_that_stay():
    def distance(p):
        return jnp.abs(p["z"] - (1 + 2j)) ** 2 + jnp.sum((p["w"] - p["n"]) ** 2)

    start = {"z": jnp.array(0j), "w": np.zeros(3), "n": jnp.array([1, 2, 3]), "name": "kept"}
    found = optimize.minimize(distance, start, optax.sgd(0.1), max_steps=200)
    np.testing.assert_allclose(found.parameters["z"], 1 + 2j, rtol=1e-4)
    np.testing.assert_allclose(found.parameters["w"], [1, 2, 3], rtol=1e-4)
    assert found.parameters["n"] is start["n"] and found.parameters["name"] == "kept"


def test_rows_of_a_batch_end_by_themselves():
    starts = jnp.array([[-1.2, 1.0], [0.0, 0.0], [1.0, 1.0]])
    many = jax.vmap(lambda start: optimize.minimize(rosenbrock, start, optax.lbfgs(), max_steps=200))(starts)
    for row, start in enumerate(starts):
        one = optimize.minimize(rosenbrock, start, optax.lbfgs(), max_steps=200)
        np.testing.assert_allclose(many.parameters[row], one.parameters, atol=1e-3)
        assert one.converged and many.reason[row].startswith("the gradient is small enough")
    assert many.num_steps[2] <= 1 < many.num_steps[0]
    assert many.evaluations["function"].shape == (3,)


@pytest.mark.parametrize("grad", [dp.grad, jax.grad, lambda f: jax.jit(dp.grad(jax.jit(f))), jax.jacfwd])
def test_a_minimum_has_exact_derivatives(grad):
    """Of (x - t)^2 + x^4 / 10, where the theorem gives dx/dt = 2 / (2 + 1.2 x^2)."""

    def minimum(t):
        found = optimize.minimize(lambda x: (x - t) ** 2 + 0.1 * x**4, jnp.array(0.0), optax.sgd(0.1))
        return found.parameters, found.value

    x = minimum(1.0)[0]
    np.testing.assert_allclose(grad(lambda t: minimum(t)[0])(1.0), 2 / (2 + 1.2 * x**2), rtol=1e-5)
    np.testing.assert_allclose(grad(lambda t: minimum(t)[1])(1.0), -2 * (x - 1), rtol=3e-5)  # the envelope theorem


def test_derivatives_on_a_bound_move_with_the_bound():
    def minimum(upper):
        function = lambda x: (x[0] - 3) ** 2 + (x[0] - x[1]) ** 2
        return optimize.minimize(function, jnp.zeros(2), optax.sgd(0.2), bounds=(None, jnp.array([1.0, 9.0]) * upper))

    np.testing.assert_allclose(minimum(1.0).parameters, [1, 1], atol=1e-3)
    np.testing.assert_allclose(dp.jacrev(lambda u: minimum(u).parameters)(1.0), [1, 1], rtol=1e-4)


def test_second_derivatives_of_a_minimum():
    minimum = lambda t: optimize.minimize(lambda x: (x - t) ** 2 + 0.1 * x**4, jnp.array(0.0), optax.sgd(0.1))
    x = minimum(1.0).parameters
    slope = 2 / (2 + 1.2 * x**2)
    np.testing.assert_allclose(
        dp.grad(dp.grad(lambda t: minimum(t).parameters))(1.0), -2 * 2.4 * x * slope / (2 + 1.2 * x**2) ** 2, rtol=1e-4
    )


def test_a_value_inside_a_program_is_optimized():
    def program(w):
        hidden = dp.tap(jnp.tanh(w), "hidden")
        return jnp.sum((hidden - 2) ** 2) + jnp.sum(w)

    found = optimize.minimize(program, jnp.array([0.1, 0.2]), optax.sgd(0.1), at="hidden")
    np.testing.assert_allclose(found.parameters, [2, 2], atol=1e-3)
    np.testing.assert_allclose(found.history[0]["value"], program(jnp.array([0.1, 0.2])), rtol=1e-6)


def test_least_squares_says_how_sure_it_is():
    x = np.linspace(0, 1, 12, dtype=np.float32)
    y = 2 * x + 1 + 0.1 * np.sin(40 * x)
    found = optimize.least_squares(
        lambda p: p["slope"] * x + p["offset"] - y, {"slope": 0.0, "offset": 0.0}, optax.lbfgs(), max_steps=200
    )
    design = np.stack([np.ones_like(x), x], axis=1).astype(np.float64)
    exact, *_ = np.linalg.lstsq(design, y.astype(np.float64))
    residuals = design @ exact - y
    covariance = np.linalg.inv(design.T @ design) * (residuals @ residuals) / (12 - 2)
    np.testing.assert_allclose([found.parameters["offset"], found.parameters["slope"]], exact, rtol=1e-3)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-3)
    np.testing.assert_allclose(found.standard_errors["slope"], covariance[1, 1] ** 0.5, rtol=1e-3)
    np.testing.assert_allclose(found.value, residuals @ residuals / 2, rtol=1e-4)
    np.testing.assert_allclose(found.residuals, residuals, atol=1e-3)


def test_a_function_that_is_not_finite_at_the_start():
    found = optimize.minimize(lambda x: jnp.log(x - 1), jnp.array(0.5), optax.sgd(0.1))
    assert not found.converged and "not finite at the start" in found.reason and "dp.diagnose" in found.reason


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(parameters=[1, 2]), "float or complex array; found none in int"),
        (dict(function=lambda x: x), r"must return one real number; found float\d\d\[2\]"),
        (dict(function=lambda x: (jnp.sum(x), 3)), "found tuple"),
        (dict(optimizer="sgd"), "must be one of diffprog.optimize"),
        (dict(bounds=1.0), "pair \\(lower, upper\\)"),
        (dict(bounds=(1.0, -1.0)), "lower <= upper"),
        (dict(bounds=(jnp.zeros(3), None)), "shaped like the parameters"),
        (dict(max_steps=-1), "max_steps must be a whole number"),
        (dict(at="nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(change, sentence):
    arguments = dict(function=rosenbrock, parameters=START, optimizer=optax.sgd(0.1)) | change
    with pytest.raises(ValueError, match=sentence):
        optimize.minimize(**arguments)


def test_words_of_other_libraries_are_answered():
    with pytest.raises(TypeError, match="the method is optimizer="):
        optimize.minimize(rosenbrock, START, method="BFGS")
    with pytest.raises(TypeError, match="number of steps is max_steps="):
        optimize.least_squares(rosenbrock, START, max_nfev=3)
    with pytest.raises(TypeError, match="belongs to its optimizer"):
        optimize.minimize(rosenbrock, START, tol=1e-3)


def test_derivatives_of_a_fit_with_respect_to_its_data():
    """An exponential decay; held against central differences."""
    times = jnp.arange(6.0)

    def fitted(y):
        decay = lambda p: p[0] * jnp.exp(-p[1] * times) - y
        return optimize.least_squares(decay, jnp.array([1.0, 0.5]), optax.lbfgs(), max_steps=100)

    y = 2 * jnp.exp(-0.3 * times) + 0.05 * jnp.sin(times)
    steps = 1e-2 * jnp.eye(6)
    differences = [(fitted(y + step).parameters - fitted(y - step).parameters) / 2e-2 for step in steps]
    np.testing.assert_allclose(dp.jacrev(lambda y: fitted(y).parameters)(y), np.stack(differences, 1), atol=1e-3)


def test_derivatives_of_a_minimum_over_many_numbers():
    matrix = np.diag(np.linspace(1, 10, 300)) + 0.1

    def minimum(t):
        quadratic = lambda x: 0.5 * x @ jnp.asarray(matrix, x.dtype) @ x - t * jnp.sum(x)
        return optimize.minimize(quadratic, jnp.zeros(300), optax.adam(0.1), max_steps=100).parameters

    np.testing.assert_allclose(dp.jacrev(minimum)(1.0), np.linalg.solve(matrix, np.ones(300)), atol=1e-4)


def test_an_equinox_model_goes_in_as_it_is():
    eqx = pytest.importorskip("equinox")
    x = np.linspace(-1, 1, 16, dtype=np.float32)[:, None]
    loss = lambda model: jnp.mean((jax.vmap(model)(x) - x**2) ** 2)
    model = eqx.nn.MLP(1, 1, 8, 2, key=jax.random.key(0))
    found = optimize.minimize(loss, model, optax.adam(1e-2), max_steps=300)
    assert isinstance(found.parameters, eqx.nn.MLP)
    np.testing.assert_allclose(found.value, loss(found.parameters), rtol=1e-5)
    assert found.value < 0.5 * loss(model)


def test_an_interrupt_keeps_the_best_point(monkeypatch):
    blocks = []

    def block(*arguments):
        if len(blocks) == 2:
            raise KeyboardInterrupt
        blocks.append(run_block(*arguments))
        return blocks[-1]

    run_block = loop._block
    monkeypatch.setattr(loop, "_block", block)
    with pytest.warns(UserWarning, match="interrupted"):
        found = optimize.minimize(rosenbrock, START, optax.adam(1e-3), max_steps=1000)
    assert found.reason == f"it was interrupted, after {2 * loop.BLOCK_SIZE} steps" and not found.converged
    np.testing.assert_array_equal(found.parameters, blocks[-1][0].point)
    assert len(found.history) == 2 * loop.BLOCK_SIZE + 1


@pytest.mark.parametrize("optimizer", [optax.lbfgs(), optax.polyak_sgd(), optax.MultiSteps(optax.sgd(0.1), 1)])
def test_optax_transformations_that_ask_for_more(optimizer):
    goal = 3.0 if isinstance(optimizer, optax.MultiSteps) else 1 + 2j  # which adds up real numbers alone
    found = optimize.minimize(lambda z: jnp.abs(z - goal) ** 2, jnp.zeros_like(goal), optimizer, max_steps=100)
    np.testing.assert_allclose(found.parameters, goal, rtol=1e-3)
