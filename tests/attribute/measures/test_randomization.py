"""Weights are shuffled from the output down, and maps compared by rank."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.stats import spearmanr

from diffprog import attribute, models
from diffprog.attribute import measures
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute.measures._used import places_of_use

GENERATOR = np.random.default_rng(0)
X = GENERATOR.uniform(size=(3, 8)).astype(np.float32)


class Net(nn.Module):
    """Layers whose names are no order."""

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(16, name="zeta")(x))
        x = jnp.tanh(nn.Dense(16, name="beta")(x))
        return nn.Dense(4, name="gamma")(x)


NET = Net()
WEIGHTS = NET.init(jax.random.key(0), X)
gradient = attribute.gradient


def ignorant(model, inputs, score):
    """Explain without a look at the model, as an edge detector does."""
    return Attribution(jnp.asarray(inputs), jnp.zeros(len(inputs)))


def test_layers_go_from_the_output_down():
    found = measures.randomization(NET.apply, X, gradient, 1, key=0, parameters=WEIGHTS)
    assert found.steps == ("as it is", "params/gamma", "params/beta", "params/zeta")
    assert found.curve.shape == (3, 4)
    np.testing.assert_array_equal(found.curve[:, 0], 1)
    np.testing.assert_allclose(found.value, found.curve[:, 1:].mean(axis=1))
    assert (found.value < 0.8).all()


def test_curve_is_the_rank_correlation_of_the_maps(x64):
    """One layer, linear: the map is the column of shuffled weights."""
    weights = {"w": GENERATOR.normal(size=(8, 4))}
    apply = lambda parameters, x: x @ parameters["w"]
    for is_absolute in (True, False):
        found = measures.randomization(apply, X, gradient, 1, key=0, parameters=weights, is_absolute=is_absolute)
        shuffled = jax.random.permutation(jax.random.fold_in(jax.random.key(0), 0), weights["w"].ravel()).reshape(8, 4)
        size = np.abs if is_absolute else np.asarray
        truth = spearmanr(size(weights["w"][:, 1]), size(shuffled[:, 1]))[0]
        np.testing.assert_allclose(found.curve[:, 1], truth, rtol=1e-12)


def test_a_method_that_does_not_look_stays():
    found = measures.randomization(NET.apply, X, ignorant, 1, key=0, parameters=WEIGHTS)
    np.testing.assert_allclose(found.curve, 1)
    np.testing.assert_allclose(found.value, 1)


def test_steps_and_depth():
    two = measures.randomization(NET.apply, X, gradient, 1, key=0, parameters=WEIGHTS, steps=2)
    assert two.steps == ("as it is", "params/gamma", "params/zeta")
    every = measures.randomization(NET.apply, X, gradient, 1, key=0, parameters=WEIGHTS)
    np.testing.assert_array_equal(two.curve[:, -1], every.curve[:, -1])  # all is random, however it came
    leaves = measures.randomization(NET.apply, X, gradient, 1, key=0, parameters=WEIGHTS, depth=3)
    assert len(leaves.steps) == 7
    one = measures.randomization(NET.apply, X, gradient, 1, key=0, parameters=WEIGHTS, depth=1)
    assert one.steps == ("as it is", "params")


def test_a_model():
    names = ("conv", "out")

    def network(parameters, images):
        x = jax.nn.relu(images @ parameters["a"])
        yield "conv", x
        yield "logits", x.mean(axis=(1, 2)) @ parameters["b"]

    parameters = {"a": jnp.asarray(GENERATOR.normal(size=(3, 8)), jnp.float32)}
    parameters["b"] = jnp.asarray(GENERATOR.normal(size=(8, 4)), jnp.float32)
    model = models.Model("small", network, parameters, tuple("abcd"), 6, 2)
    images = GENERATOR.uniform(size=(2, 6, 6, 3)).astype(np.float32)
    found = measures.randomization(model, images, partial(attribute.gradient_times_input, baseline=0.5), "b", key=1)
    assert found.steps == ("as it is", "b", "a") and len(found.steps) == len(names) + 1
    assert list(found.evaluations) == [6, 6]
    np.testing.assert_array_equal(model.parameters["b"], parameters["b"])


def test_parameters_are_ordered_by_where_they_meet_the_inputs():
    def apply(p, x):
        scale = jnp.exp(p["c"]) * p["d"]  # of parameters alone, before all else
        x = jax.jit(lambda w, x: jnp.sin(x @ w))(p["a"], x)
        x, _ = jax.lax.scan(lambda x, w: (x @ w, None), x, p["e"])
        return (x * scale) @ p["b"]

    p = {name: jnp.ones((2, 2)) for name in "abcd"} | {"e": jnp.ones((3, 2, 2)), "unused": jnp.ones(2)}
    places = dict(zip(sorted(p), places_of_use(apply, p, jnp.ones((2, 2))), strict=True))
    assert places["a"] < places["e"] < places["c"] == places["d"] < places["b"]
    assert places["unused"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "randomization needs the weights"),
        ({"parameters": {"params": {}}}, "randomization needs the weights"),
        ({"parameters": WEIGHTS, "steps": 0}, "steps must be a whole number of at least 1"),
    ],
)
def test_bad_input_gets_a_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        measures.randomization(NET.apply, X, gradient, 1, key=0, **options)


def test_weights_inside_a_function_are_refused():
    model = models.wrap(lambda x: NET.apply(WEIGHTS, x.reshape(len(x), -1)), size=2, channels=2, name="closed")
    with pytest.raises(ValueError, match="holds its weights inside a function"):
        measures.randomization(model, X.reshape(3, 2, 2, 2), gradient, 1, key=0)
