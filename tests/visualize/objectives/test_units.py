import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from diffprog.visualize import channel, layer, logit, neuron, objective
from diffprog.visualize.objectives import class_of, cosine, direction, direction_at, interpolate, log_probability
from diffprog.visualize.penalties import total_variation
from tests.visualize import small

MODEL = small.model()
GRID = np.random.default_rng(1).normal(size=(3, 5, 4, 4)).astype(np.float32)
IMAGES = np.random.default_rng(2).uniform(size=(3, 7, 6, 3)).astype(np.float32)
VALUES = {"units": jnp.asarray(GRID), "logits": jnp.asarray(GRID[:, 0, 0, :3]), "image": jnp.asarray(IMAGES)}


def score(objective):
    return np.asarray(objective.score(MODEL, VALUES))


@pytest.mark.parametrize("make", [layer, lambda name: channel(name, 1), lambda name: neuron(name, 1)])
def test_a_layer_is_given_by_its_name(make):
    for name in (["conv"], 3, None):
        with pytest.raises(ValueError, match="a layer is given by its name; found "):
            make(name)


def test_each_objective_measures_what_it_says():
    np.testing.assert_allclose(score(channel("units", 2)), GRID[..., 2].mean((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(score(neuron("units", 1)), GRID[:, 2, 2, 1])
    np.testing.assert_array_equal(score(neuron("units", 1, row=0, column=-1)), GRID[:, 0, -1, 1])
    np.testing.assert_allclose(score(layer("units")), (GRID**2).mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(score(logit("unity")), GRID[:, 0, 0, 1])
    np.testing.assert_array_equal(score(channel("logits", 1)), score(logit(1)))
    logits = np.asarray(VALUES["logits"], np.float64)
    np.testing.assert_allclose(score(log_probability("zero")), special.log_softmax(logits, axis=1)[:, 0], rtol=1e-5)
    own = objective(lambda values: values["units"].max((1, 2, 3)) * values["logits"][:, 0], ["units", "logits"])
    np.testing.assert_allclose(score(own), GRID.max((1, 2, 3)) * GRID[:, 0, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(score(0 * own + 2.5), [2.5] * 3)


def test_tokens_have_positions_too():
    values = {"units": jnp.asarray(GRID[:, 0])}
    np.testing.assert_array_equal(neuron("units", 3).score(MODEL, values), GRID[:, 0, 2, 3])
    np.testing.assert_array_equal(neuron("units", 3, row=-1).score(MODEL, values), GRID[:, 0, -1, 3])
    with pytest.raises(ValueError, match="4 positions in a row; give a row and no column"):
        neuron("units", 3, column=1).score(MODEL, values)


@pytest.mark.parametrize("power", [0, 1, 2])
def test_direction_is_dot_times_a_power_of_the_cosine(power):
    vector = np.array([1.0, -2.0, 0.5, 0.0])
    dot = GRID.astype(np.float64) @ vector
    cosine_of = dot / np.linalg.norm(GRID, axis=-1) / np.linalg.norm(vector)
    expected = (dot * np.maximum(0.1, cosine_of) ** power).mean((1, 2))
    np.testing.assert_allclose(score(direction("units", vector, power)), expected, rtol=1e-4)
    at = (dot * np.maximum(0.1, cosine_of) ** power)[:, 4, 1]
    np.testing.assert_allclose(score(direction_at("units", vector, -1, 1, power)), at, rtol=1e-4)
    np.testing.assert_allclose(score(cosine("units", vector)), cosine_of.mean((1, 2)), rtol=1e-4, atol=1e-6)


atoms = st.sampled_from(
    [channel("units", 0), channel("units", 3), neuron("units", 1), layer("units"), logit("two"), total_variation()]
)
numbers = st.integers(-64, 64).map(lambda x: x / 16)  # so that weights are exact in floating point
objectives = st.recursive(
    st.one_of(atoms, st.builds(lambda a, x: a + x, atoms, numbers)),
    lambda inner: st.one_of(
        st.builds(lambda a, b: a + b, inner, inner),
        st.builds(lambda a, b: a - b, inner, inner),
        st.builds(lambda a: -a, inner),
        st.builds(lambda a, x: a * x, inner, numbers),
    ),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(objectives, objectives, objectives, numbers, numbers)
def test_objectives_form_a_vector_space(a, b, c, x, y):
    """Exactly: the same terms with the same weights."""
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert x * (a + b) == x * a + b * x
    assert (x + y) * a == x * a + y * a
    assert (x * y) * a == x * (y * a)
    assert a - b == a + -b
    assert 0 - (-a) == a
    assert sum([a, b, c]) == a + b + c
    assert a / 2 == 0.5 * a
    assert (x + a - y) == a + (x - y)
    assert a - a == 0 * b
    np.testing.assert_allclose(score(a + b), score(a) + score(b), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(score(x * a), x * score(a), rtol=1e-5, atol=1e-4)


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
        (logit("two", "units.p"), "small has no layer 'units.p'; did you mean 'units.pre'"),
        (objective(lambda values: values["units"], ["units"], "mine"), r"mine must give one score per picture"),
        (logit("tow"), "small has no class 'tow'; did you mean 'two'"),
    ],
)
def test_names_that_the_model_lacks_are_refused(objective, message):
    with pytest.raises(ValueError, match=message):
        objective.check(MODEL)


def test_interpolation_goes_from_one_to_the_other():
    first, last = channel("units", 0), logit("two")
    assert interpolate(first, last, 5)[1] == 0.75 * first + 0.25 * last
    assert (interpolate(first, last, 5)[0], interpolate(first, last, 5)[-1]) == (first, last)


def test_nonsense_is_refused_where_it_is_written():
    for wrong, message in (
        (lambda: direction("units", [0, 0, 0, 0]), "finite numbers, not all of them zero"),
        (lambda: direction("units", [1, 0, 0, 0], -1), "a power of the cosine is 0 or more; found -1"),
        (lambda: channel("units", 0) * float("nan"), "finite numbers; found nan"),
        (lambda: objective(len, []), "reads at least one layer"),
        (lambda: interpolate(channel("units", 0), 1, 3), "two objectives and num_objectives of 2 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()


def test_the_class_of_an_objective():
    assert class_of(logit("two")) == class_of(2 * log_probability("two")) == "two"
    assert class_of(logit(1)) == 1
    others = (
        channel("logits", 1),
        layer("units"),
        0 * logit(1),
        logit("two") + logit("one"),
        logit("two") - total_variation(),
    )
    assert [class_of(each) for each in others] == [None] * 5
