"""Guided backpropagation and deconvnet: by how an operation behaves, not by what it is called."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from diffprog import attribute
from tests.attribute.backward_rules.programs import RELUS, dense, wave

pytestmark = pytest.mark.usefixtures("x64")

METHODS = {"guided_backprop": attribute.guided_backprop, "deconvnet": attribute.deconvnet}


def points():
    return wave(3, 6, phase=0.3) * 2


def replaced(method):
    """Make a ReLU whose derivative is that of the method."""
    relu = jax.custom_vjp(jax.nn.relu)
    masked = (
        (lambda x, g: jnp.maximum(g, 0) * (x > 0)) if method == "guided_backprop" else lambda x, g: jnp.maximum(g, 0)
    )
    relu.defvjp(lambda x: (jax.nn.relu(x), x), lambda x, g: (masked(x, g),))
    return relu


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spelling", RELUS)
def test_a_relu_is_found_however_it_is_spelled(spelling, method):
    x = points()
    found = METHODS[method](dense(RELUS[spelling]), x)
    expected = jax.grad(lambda x: dense(replaced(method))(x).sum())(x)
    np.testing.assert_allclose(found.values, expected, atol=1e-14)
    assert found.unruled == ()
    assert found.gap is None


@pytest.mark.parametrize("method", METHODS)
def test_inside_loops_jit_and_two_layers(method):
    x, w = points(), wave(6, 6, phase=0.7)

    def network(relu):
        def scanned(x):
            step = jax.jit(lambda h, w: (relu(h @ w), None))
            return lax.scan(step, x, jnp.stack([w, -w, w]))[0].sum(1)

        return scanned

    expected = jax.grad(lambda x: network(replaced(method))(x).sum())(x)
    for spelling in RELUS.values():
        np.testing.assert_allclose(METHODS[method](network(spelling), x).values, expected, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_relu6_saturates(method):
    x = jnp.asarray([[-1.0, 2.0, 7.0]])
    found = METHODS[method](lambda x: (jax.nn.relu6(x) * jnp.asarray([[1.0, 2.0, 3.0]])).sum(1), x)
    expected = [[0, 2, 0]] if method == "guided_backprop" else [[1, 2, 3]]
    np.testing.assert_array_equal(found.values, expected)


def test_where_all_gradients_are_positive_they_are_the_gradient():
    x, w, last = points(), abs(wave(6, 8, phase=0.4)), abs(wave(8, phase=0.9))
    network = lambda x: jax.nn.relu(x @ w + 5.0) @ last
    gradient = jax.grad(lambda x: network(x).sum())(x)
    for method in METHODS.values():
        np.testing.assert_allclose(method(network, x).values, gradient, rtol=1e-14)


def test_disjoint_supports():
    """An inactive unit that speaks for the score, and an active one that speaks against it: nothing is guided."""
    x = jnp.asarray([[-1.0, 1.0]])
    network = lambda x: jax.nn.relu(x[:, 0]) - jax.nn.relu(x[:, 1])
    np.testing.assert_array_equal(attribute.gradient(network, x).values, [[0, -1]])
    np.testing.assert_array_equal(attribute.deconvnet(network, x).values, [[1, 0]])
    with pytest.warns(attribute.AttributionWarning, match="credits nothing"):
        np.testing.assert_array_equal(attribute.guided_backprop(network, x).values, [[0, 0]])


@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_relu_passes_its_derivative_and_is_named(method):
    x = points()
    for activation in (jnp.tanh, jax.nn.gelu, jax.nn.leaky_relu, lambda x: jnp.maximum(x, -0.5)):
        found = METHODS[method](dense(activation), x)
        gradient = jax.grad(lambda x, f=activation: dense(f)(x).sum())(x)
        np.testing.assert_allclose(found.values, gradient, atol=1e-14)
    found = METHODS[method](dense(jnp.tanh), x)
    assert len(found.unruled) == 1
    assert found.unruled[0].startswith("tanh at programs.py:")


def test_several_scores():
    x, w = points(), wave(6, 8, phase=0.4)
    network = lambda x: jax.nn.relu(x @ w) @ wave(8, 3, phase=0.2)
    both = attribute.guided_backprop(network, x, [0, 2])
    for i, index in enumerate((0, 2)):
        np.testing.assert_array_equal(both.values[i], attribute.guided_backprop(network, x, index).values)
