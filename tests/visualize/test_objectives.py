import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffprog.visualize import channel, direction, layer, logit, neuron
from tests.visualize import small

MODEL = small.model()
GRID = np.random.default_rng(1).normal(size=(3, 5, 4, 4)).astype(np.float32)
VALUES = {"units": jnp.asarray(GRID), "logits": jnp.asarray(GRID[:, 0, 0, :3])}


def score(objective):
    return np.asarray(objective.score(MODEL, VALUES))


def test_each_objective_measures_what_it_says():
    np.testing.assert_allclose(score(channel("units", 2)), GRID[..., 2].mean((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(score(neuron("units", 1)), GRID[:, 2, 2, 1])
    np.testing.assert_array_equal(score(neuron("units", 1, row=0, column=-1)), GRID[:, 0, -1, 1])
    np.testing.assert_allclose(score(layer("units")), (GRID**2).mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(score(logit("unity")), GRID[:, 0, 0, 1])
    np.testing.assert_array_equal(score(channel("logits", 1)), score(logit(1)))


@pytest.mark.parametrize("power", [0, 1, 2])
def test_direction_is_dot_times_a_power_of_the_cosine(power):
    vector = np.array([1.0, -2.0, 0.5, 0.0])
    dot = GRID.astype(np.float64) @ vector
    cosine = dot / np.linalg.norm(GRID, axis=-1) / np.linalg.norm(vector)
    expected = (dot * np.maximum(0.1, cosine) ** power).mean((1, 2))
    np.testing.assert_allclose(score(direction("units", vector, power)), expected, rtol=1e-4)


atoms = st.sampled_from(
    [channel("units", 0), channel("units", 3), neuron("units", 1), layer("units"), logit("two"), channel("logits", 0)]
)
numbers = st.floats(-4, 4).map(lambda x: round(x, 2))
objectives = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a + b, inner, inner),
        st.builds(lambda a, b: a - b, inner, inner),
        st.builds(lambda a: -a, inner),
        st.builds(lambda a, x: a * x, inner, numbers),
    ),
    max_leaves=4,
)


def same(a, b):
    np.testing.assert_allclose(score(a), score(b), rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(objectives, objectives, objectives, numbers, numbers)
def test_objectives_form_a_vector_space(a, b, c, x, y):
    np.testing.assert_allclose(score(a + b), score(a) + score(b), atol=1e-5)
    np.testing.assert_allclose(score(x * a), x * score(a), atol=1e-5)
    same(a + b, b + a)
    same((a + b) + c, a + (b + c))
    same(x * (a + b), x * a + b * x)
    same((x + y) * a, x * a + y * a)
    same((x * y) * a, x * (y * a))
    same(a - b, a + -b)
    same(0 - (-a), a)
    same(sum([a, b, c]), a + b + c)
    same(a / 2, 0.5 * a)
    np.testing.assert_allclose(score(x + a - y), score(a) + (x - y), atol=1e-4)
    np.testing.assert_allclose(score(a - a) + np.zeros(3), 0, atol=1e-5)
    assert (a + b).layers == a.layers | b.layers


def test_what_is_no_objective_is_not_added():
    for wrong in (lambda a: a + "b", lambda a: a * a, lambda a: a - None, lambda a: a / "2"):
        with pytest.raises(TypeError):
            wrong(channel("units", 0))


@pytest.mark.parametrize(
    "objective, message",
    [
        (channel("unit", 0), "small has no layer 'unit'; did you mean 'units'"),
        (channel("units", 4), "units has channels 0 to 3; found 4"),
        (channel("units", -1), "units has channels 0 to 3; found -1"),
        (2 * channel("units", 0) - channel("units", 9), "units has channels 0 to 3; found 9"),
        (neuron("units", 0, row=12), "units has 12 x 12 positions here; found 12, None"),
        (neuron("logits", 0), r"logits has no positions; use channel\('logits', 0\)"),
        (direction("units", [1, 2]), r"a direction in units has 4 numbers; found shape \(2,\)"),
        (logit("tow"), "no class is called 'tow'; did you mean 'two'"),
    ],
)
def test_names_that_the_model_lacks_are_refused(objective, message):
    with pytest.raises(ValueError, match=message):
        objective.checked(MODEL)
