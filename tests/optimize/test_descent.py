import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffprog.optimize import ENGINES, Descent, NotFiniteError
from tests.compilations import counted

CURVATURE = jnp.array([0.5, 1.0, 3.0])
RATE = 0.1


def bowl(parameters, step):
    return 0.5 * jnp.sum(CURVATURE * parameters**2)


def noisy_bowl(parameters, step):
    noise = jax.random.normal(step.key, parameters["point"].shape)
    value = bowl(parameters["point"] - step.data + 0.1 * noise, step) + 0.1 * parameters["offset"] ** 2
    return value, {"point": parameters["point"], "number": step.num_steps}


def noisy_loop(**options):
    loop = Descent(noisy_bowl, optax.adam(0.05), has_aux=True, **{"engine": "jax", **options})
    return loop, loop.init({"point": jnp.zeros(3), "offset": 1.0}, key=jax.random.key(7))


def assert_same_bits(left, right):
    jax.tree.map(np.testing.assert_array_equal, left._replace(key=None), right._replace(key=None))


@pytest.mark.parametrize("engine", ENGINES)
def test_quadratic_has_its_closed_form(engine):
    loop = Descent(bowl, optax.sgd(RATE), engine=engine)
    start = jnp.array([1.0, -2.0, 3.0])
    state, history = loop.run(loop.init(start), 40, block_size=16)
    shrink = (1 - RATE * np.asarray(CURVATURE, np.float64)) ** np.arange(41)[:, None]
    path = np.asarray(start, np.float64) * shrink
    np.testing.assert_allclose(state.parameters, path[40], rtol=1e-5)
    np.testing.assert_allclose(history.value, 0.5 * np.sum(np.asarray(CURVATURE) * path[:40] ** 2, axis=1), rtol=1e-5)
    assert int(state.num_steps) == 40


def test_equals_optax_by_hand():
    loop, state = noisy_loop()
    data = jnp.array([1.0, 2.0, 3.0])
    found, history = loop.run(state, 13, data=data, block_size=5)

    parameters, optimizer, values = state.parameters, loop.optimizer.init(state.parameters), []
    for number in range(13):

        def objective(p, noise):
            value = 0.5 * jnp.sum(CURVATURE * (p["point"] - data + 0.1 * noise) ** 2)
            return value + 0.1 * p["offset"] ** 2

        noise = jax.random.normal(jax.random.fold_in(jax.random.key(7), number), (3,))
        value, gradient = jax.value_and_grad(objective)(parameters, noise)
        updates, optimizer = loop.optimizer.update(gradient, optimizer, parameters)
        parameters = optax.apply_updates(parameters, updates)
        values.append(value)
    np.testing.assert_allclose(history.value, values, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found.parameters, parameters)


@pytest.mark.parametrize("block_size", [1, 2, 7, 19, 1000])
def test_block_size_does_not_touch_a_bit(block_size):
    loop, state = noisy_loop()
    expected, expected_history = loop.run(state, 19, data=jnp.ones(3), block_size=10)
    found, history = loop.run(state, 19, data=jnp.ones(3), block_size=block_size)
    assert_same_bits(found, expected)
    jax.tree.map(np.testing.assert_array_equal, history, expected_history)
    np.testing.assert_array_equal(history.aux["number"], np.arange(19))


def test_resuming_gives_the_bits_of_one_run():
    loop, state = noisy_loop()
    whole, history = loop.run(state, 30, data=jnp.ones(3))
    half, first = loop.run(state, 11, data=jnp.ones(3))
    from_file = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), half._replace(key=None))
    copy = from_file._replace(key=jax.random.key(7))
    resumed, second = loop.run(copy, 19, data=jnp.ones(3))
    assert_same_bits(resumed, whole)
    np.testing.assert_array_equal(np.concatenate([first.value, second.value]), history.value)


def test_maximizing_is_minimizing_the_negative():
    up, state = noisy_loop(maximize=True)

    def negative(parameters, step):
        value, aux = noisy_bowl(parameters, step)
        return -value, aux

    down = Descent(negative, up.optimizer, has_aux=True, engine="jax")
    risen, values = up.run(state, 20, data=jnp.ones(3))
    fallen, negated = down.run(state, 20, data=jnp.ones(3))
    np.testing.assert_allclose(risen.parameters["point"], fallen.parameters["point"], rtol=1e-6)
    np.testing.assert_allclose(values.value, -negated.value, rtol=1e-6)
    assert values.value[-1] > values.value[0]


def test_projection_sees_the_step_and_holds_after_each_update():
    loop = Descent(
        lambda p, step: (jnp.sum(p), p),
        optax.sgd(1.0),
        has_aux=True,
        engine="jax",
        project=lambda p, step: jnp.maximum(p, step.data - step.num_steps),
    )
    state, history = loop.run(loop.init(jnp.array([10.0])), 4, data=9.5)
    np.testing.assert_array_equal(history.aux[:, 0], [10.0, 9.5, 8.5, 7.5])  # down by 1, but not below 9.5 - number
    assert float(state.parameters[0]) == 6.5


def test_track_sees_every_measured_iterate_once():
    def best(tracked, parameters, value, aux):
        return jax.tree.map(lambda old, new: jnp.where(value < tracked[0], new, old), tracked, (value, parameters))

    loop = Descent(lambda p, step: (p - 1.0) ** 2, optax.sgd(1.05), track=best, engine="jax")  # diverges from the start
    state, history = loop.run(loop.init(1.5, tracked=(jnp.inf, 0.0)), 5, block_size=2)
    assert np.all(np.diff(history.value) > 0)
    assert float(state.tracked[0]) == history.value[0] and float(state.tracked[1]) == 1.5


def test_callback_sees_blocks_and_can_stop():
    loop = Descent(bowl, optax.sgd(RATE), engine="jax")
    seen = []

    def callback(state, history):
        seen.append((int(state.num_steps), len(history.value)))
        return history.value[-1] < 0.2

    state, history = loop.run(loop.init(jnp.ones(3)), 1000, block_size=4, callback=callback)
    assert seen[0] == (4, 4) and len(history.value) == int(state.num_steps) == seen[-1][0] < 1000
    assert history.value[-1] < 0.2 <= history.value[-5]


def test_compiles_once_for_all_blocks_and_runs():
    traces = []
    loop = Descent(lambda p, step: traces.append(1) or jnp.sum(p**2), optax.sgd(RATE), engine="jax")
    state, _ = loop.run(loop.init(jnp.ones(3)), 23, block_size=5)
    loop.run(state, 8, block_size=5)
    assert len(traces) == 1


def test_no_steps_changes_nothing():
    loop, state = noisy_loop()
    same, history = loop.run(state, 0, data=jnp.ones(3))
    assert_same_bits(same, state)
    assert history.value.shape == (0,) and history.aux["point"].shape == (0, 3)


def test_progress_shows_the_objective(capsys):
    loop = Descent(bowl, optax.sgd(RATE), engine="jax")
    _, history = loop.run(loop.init(jnp.ones(3)), 6, progress="rolling")
    shown = capsys.readouterr().err
    assert "rolling" in shown and "6/6" in shown and f"objective={history.value[-1]:.4g}" in shown


@pytest.mark.parametrize("options", [{"max_steps": -1}, {"max_steps": 1, "block_size": 0}])
def test_bad_lengths_are_refused(options):
    loop = Descent(bowl, optax.sgd(RATE), engine="jax")
    with pytest.raises(ValueError, match="max_steps must be at least 0 and block_size at least 1; found max_steps="):
        loop.run(loop.init(jnp.ones(3)), **options)


def test_unknown_engine_is_refused_before_the_first_step():
    with pytest.raises(ValueError, match="engine 'numpy' is not known"):
        Descent(bowl, optax.sgd(RATE), engine="numpy")


# ---------------------------------------------------------------- any parameters


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("optimizer", "num_steps"),
    [(optax.sgd(0.1), 60), (optax.adam(0.1), 300), (optax.lbfgs(), 6)],
    ids=["sgd", "adam", "lbfgs"],
)
def test_complex_parameters_walk_down(optimizer, num_steps, engine):
    target = jnp.array([1 + 2j, -0.5j])
    loop = Descent(lambda p, step: jnp.sum(jnp.abs(p["z"] - target) ** 2) + p["x"] ** 2, optimizer, engine=engine)
    state, _ = loop.run(loop.init({"z": jnp.zeros(2, jnp.complex64), "x": 1.0}), num_steps)
    np.testing.assert_allclose(state.parameters["z"], target, atol=1e-3)
    assert abs(state.parameters["x"]) < 1e-3


def test_complex_gradient_descent_has_its_closed_form():
    loop = Descent(lambda p, step: jnp.abs(p - (1 + 2j)) ** 2, optax.sgd(0.1))
    state, history = loop.run(loop.init(jnp.complex64(0)), 50)
    np.testing.assert_allclose(state.parameters, (1 + 2j) * (1 - 0.8**50), rtol=1e-5)
    np.testing.assert_allclose(history.gradient_norm, 2 * np.sqrt(5) * 0.8 ** np.arange(50), rtol=1e-4, atol=1e-6)


def test_leaves_that_are_no_inexact_arrays_are_kept():
    parameters = {
        "w": jnp.ones(3),
        "n": 2,
        "ints": jnp.arange(3),
        "flags": np.array([True, False, True]),
        "text": "tanh",
        "function": jnp.tanh,
        "none": None,
        "key": jax.random.key(5),
    }

    def objective(p, step):
        noise = jax.random.normal(p["key"], (3,))
        return jnp.sum((p["function"](p["w"]) - noise) ** p["n"] * p["flags"]) + p["ints"].sum() * len(p["text"])

    loop = Descent(objective, optax.adam(0.1))
    state, _ = loop.run(loop.init(parameters), 5)
    for name, leaf in parameters.items():
        assert name == "w" or state.parameters[name] is leaf
    plain = Descent(lambda w, step: objective(parameters | {"w": w}, step), optax.adam(0.1))
    expected, _ = plain.run(plain.init(parameters["w"]), 5)
    np.testing.assert_array_equal(state.parameters["w"], expected.parameters)


def test_an_equinox_model_is_trained_as_it_is():
    model = eqx.nn.MLP(2, 1, 8, 1, key=jax.random.key(0))
    x, y = jnp.eye(2), jnp.array([1.0, -1.0])
    loop = Descent(lambda model, step: jnp.mean((jax.vmap(model)(x)[:, 0] - y) ** 2), optax.adam(0.05))
    state, history = loop.run(loop.init(model), 100)
    np.testing.assert_allclose(jax.vmap(state.parameters)(x)[:, 0], y, atol=0.05)
    assert history.value[-1] < 1e-3 < history.value[0]


def test_nothing_to_train_is_said():
    with pytest.raises(ValueError, match="parameters must hold an array of floats or complex numbers to train"):
        Descent(bowl, optax.sgd(RATE)).init({"n": 3, "text": "relu"})
    with pytest.raises(TypeError, match=r"optimizer must be an Optax gradient transformation.*found 'sgd'"):
        Descent(bowl, "sgd")


def test_frozen_parameters_stay():
    loop = Descent(lambda p, step: bowl(p["a"]["w"] + p["b"], step), optax.adamw(0.1), train="a")
    state, _ = loop.run(loop.init({"a": {"w": jnp.ones(3)}, "b": jnp.ones(3)}), 5)
    np.testing.assert_array_equal(state.parameters["b"], 1)
    assert np.all(state.parameters["a"]["w"] != 1)


# ---------------------------------------------------------------- optimizers that ask for more


@pytest.mark.parametrize("engine", ENGINES)
def test_lbfgs_is_optax_by_hand(engine):
    def rosenbrock(p):
        return jnp.sum(100 * (p[1:] - p[:-1] ** 2) ** 2 + (1 - p[:-1]) ** 2)

    loop = Descent(lambda p, step: rosenbrock(p), optax.lbfgs(), engine=engine)
    state, history = loop.run(loop.init(jnp.array([-1.2, 1.0, 0.5])), 12)
    optimizer, point, values = optax.lbfgs(), jnp.array([-1.2, 1.0, 0.5]), []
    memory = optimizer.init(point)
    for _ in range(12):
        value, gradient = jax.value_and_grad(rosenbrock)(point)
        updates, memory = optimizer.update(gradient, memory, point, value=value, grad=gradient, value_fn=rosenbrock)
        point, values = optax.apply_updates(point, updates), [*values, value]
    np.testing.assert_allclose(history.value, values, rtol=1e-3)
    np.testing.assert_allclose(state.parameters, point, rtol=1e-3)


def test_polyak_and_plateau_are_given_the_value():
    start = jnp.array([1.0, -2.0, 3.0])
    loop = Descent(bowl, optax.polyak_sgd())
    state, history = loop.run(loop.init(start), 1)
    gradient = CURVATURE * start
    np.testing.assert_allclose(state.parameters, start - history.value[0] / jnp.sum(gradient**2) * gradient, rtol=1e-5)
    plateau = optax.chain(optax.sgd(1e-6), optax.contrib.reduce_on_plateau(patience=2, rtol=0.1))
    loop = Descent(lambda p, step: -bowl(p, step), plateau, maximize=True)
    state, _ = loop.run(loop.init(start), 8)
    assert state.optimizer[1].scale < 1 and state.optimizer[1].best_value > 0


# ---------------------------------------------------------------- NaN and infinity


@pytest.mark.parametrize("block_size", [1, 4, None])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_first_bad_step_stops_the_run(block_size, engine):
    loop = Descent(lambda p, step: jnp.sum(jnp.sqrt(p)), optax.sgd(0.5), engine=engine)
    good = Descent(lambda p, step: jnp.sum(jnp.sqrt(p)), optax.sgd(0.5), engine=engine, allow_nonfinite=True)
    start = jnp.array([4.0, 3.0])
    _, history = good.run(good.init(start), 30)
    bad = int(np.argmax(~np.isfinite(history.value)))
    assert bad > 3
    expected, _ = good.run(good.init(start), bad)
    with pytest.raises(NotFiniteError, match=rf"the objective is nan in step {bad + 1}: ") as caught:
        loop.run(loop.init(start), 30, block_size=block_size)
    assert_same_bits(caught.value.state, expected)
    assert len(caught.value.history.value) == bad + 1
    assert "sqrt" in str(caught.value.diagnose())


def test_a_bad_gradient_stops_the_run_and_a_large_one_does_not():
    loop = Descent(lambda p, step: jnp.sum(jnp.sqrt(jnp.abs(p))), optax.sgd(0.5))
    with pytest.raises(NotFiniteError, match=r"the gradient of the objective, which is 0, has NaN or inf.* in step 1:"):
        loop.run(loop.init(jnp.zeros(2)), 5)
    loop = Descent(lambda p, step: jnp.sum(p * 1e30), optax.sgd(1e-30))
    _, history = loop.run(loop.init(jnp.ones(2)), 5)  # the square of the norm overflows, the gradient does not
    assert len(history.value) == 5


# ---------------------------------------------------------------- programs


def test_another_loop_of_equal_operations_compiles_nothing():
    def run(target, start):
        loop = Descent(lambda p, step: jnp.sum((p - target) ** 2), optax.adam(0.1))
        return loop.run(loop.init(start), 30)[0].parameters

    here, there, start = jnp.zeros(3), jnp.full(3, 2.0, jnp.float32), jnp.ones(3)
    run(here, start)
    with counted() as compilations:
        found = run(there, start)
    assert compilations == [0]
    assert np.all(found > 1)  # what it reads now, not what it read at first


def test_blocks_grow_until_they_take_a_tenth_of_a_second():
    sizes = []
    loop = Descent(bowl, optax.sgd(RATE), engine="jax")
    loop.run(loop.init(jnp.ones(3)), 30_000, callback=lambda state, history: sizes.append(len(history.value)) and None)
    assert sizes[0] == 1 and max(sizes) > 100 and sum(sizes) == 30_000
