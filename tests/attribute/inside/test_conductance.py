"""Conductance, influence and units, against integrals in closed form and by other ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog import attribute
from tests.attribute.inside.models import LAYERS, mlp, numbers, transformer

pytestmark = pytest.mark.usefixtures("x64")


def test_units_of_every_layer_add_up_to_the_difference():
    x, start = numbers(10, 2, 3), numbers(11, 2, 3)
    found = attribute.conductance(mlp, x, 1, at="first", baseline=start, steps=30)
    np.testing.assert_allclose(found.gap, 0.0, atol=1e-14)
    np.testing.assert_allclose(found.score - found.baseline_score, (mlp(x) - mlp(start))[:, 1], rtol=1e-13)
    both = attribute.conductance(mlp, x, 1, at=["first", "second"], baseline=start, steps=30)
    assert both.gap is None
    for values in both.values.values():
        np.testing.assert_allclose(values.sum(axis=1), (mlp(x) - mlp(start))[:, 1], rtol=1e-12)
    np.testing.assert_allclose(both.values["first"], found.values["first"], rtol=1e-13)


def test_conductance_of_a_unit_is_the_integral_over_its_values():
    """Oracle: for one input y(a) = tanh(w a), score = y^2, the integral of dF/dy dy/da is y^2."""
    w = jnp.array([[0.5, -1.5]])

    def model(x):
        return jnp.sum(dp.tap(jnp.tanh(x @ w), "units") ** 2, axis=1)

    found = attribute.conductance(model, jnp.array([[1.2]]), at="units", steps=30)
    np.testing.assert_allclose(found.values["units"], jnp.tanh(1.2 * w) ** 2, rtol=1e-12)


def test_conductance_of_a_linear_network_takes_one_step():
    model = lambda x: dp.tap(x @ numbers(0, 3, 4), "hidden") @ numbers(1, 4, 1)[:, 0]
    x = numbers(2, 5, 3)
    found = attribute.conductance(model, x, at="hidden", steps=1)
    np.testing.assert_allclose(found.values["hidden"], (x @ numbers(0, 3, 4)) * numbers(1, 4, 1)[:, 0], rtol=1e-13)


def test_at_the_inputs_it_is_integrated_gradients():
    model = lambda x: mlp(dp.tap(1.0 * x, "inputs"))
    x = numbers(10, 2, 3)
    found = attribute.conductance(model, x, 0, at="inputs", steps=8)
    np.testing.assert_allclose(
        found.values["inputs"], attribute.integrated_gradients(model, x, 0, steps=8).values, rtol=1e-12
    )


def test_each_iteration_of_a_scan_is_a_layer():
    x = 0.3 * numbers(12, 2, 3, 4)
    found = attribute.conductance(transformer, x, 0, at="stream", steps=40)
    values = found.values["stream"]
    assert values.shape == (2, LAYERS, 3, 4) and found.gap is None
    difference = (transformer(x) - transformer(0 * x))[:, 0]
    np.testing.assert_allclose(values.sum(axis=(2, 3)), jnp.stack([difference] * LAYERS, axis=1), rtol=1e-8)
    # Behind the last layer only the last position is read.
    np.testing.assert_array_equal(values[:, -1, :-1], 0.0)


def test_a_function_with_a_rule_for_reverse_mode_alone():
    @jax.custom_vjp
    def cube(x):
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, g: (3 * x**2 * g,))
    plain, special = (
        lambda x, f=f: jnp.sum(jnp.tanh(dp.tap(f(x @ numbers(0, 3, 4)), "h")), axis=1) for f in (lambda x: x**3, cube)
    )
    x = numbers(10, 2, 3)
    found = attribute.conductance(special, x, at="h", steps=5)
    expected = attribute.conductance(plain, x, at="h", steps=5)
    np.testing.assert_allclose(found.values["h"], expected.values["h"], rtol=1e-12)


def test_several_scores_from_one_call():
    x = numbers(10, 2, 3)
    both = attribute.conductance(mlp, x, [0, 1], at="first", steps=5)
    for i in range(2):
        one = attribute.conductance(mlp, x, i, at="first", steps=5)
        np.testing.assert_allclose(both.values["first"][i], one.values["first"], rtol=1e-13)
        np.testing.assert_allclose(both.gap[i], one.gap, atol=1e-14)


def test_nothing_depends_on_the_batch():
    x = numbers(10, 4, 3).astype(jnp.float32)
    whole = attribute.conductance(mlp, x, 0, at="first", steps=4).values["first"]
    alone = attribute.conductance(mlp, x[2:3], 0, at="first", steps=4).values["first"]
    np.testing.assert_array_equal(whole[2:3], alone)


def test_influence_is_the_mean_gradient():
    """Oracle: of score = sum of y^3 at y = a w the mean gradient over the way is 3 w^2 / 3."""
    w = jnp.array([[0.5, -1.5]])
    model = lambda x: jnp.sum(dp.tap(x @ w, "units") ** 3, axis=1)
    found = attribute.internal_influence(model, jnp.array([[1.0]]), at="units", steps=4)
    np.testing.assert_allclose(found.values["units"], w**2, rtol=1e-13)
    assert found.gap is None


def test_frameworks():
    import equinox
    from flax import linen

    module = linen.Sequential([linen.Dense(5), linen.gelu, linen.LayerNorm(), linen.Dense(2)])
    parameters = module.init(jax.random.key(0), jnp.ones((1, 3)))
    network = equinox.nn.MLP(3, 2, 4, 2, activation=jax.nn.silu, key=jax.random.key(0))
    x = numbers(10, 2, 3)
    for model, at in (
        (lambda x: module.apply(parameters, x), "Sequential/layers_2"),
        (jax.vmap(network), "dot_general"),
    ):
        found = attribute.conductance(model, x, 1, at=at, baseline=0.3 * jnp.ones((2, 3)), steps=40)
        parts = found.values[at] if isinstance(found.values[at], list) else [found.values[at]]
        for part in parts:
            np.testing.assert_allclose(part.sum(axis=1), found.score - found.baseline_score, atol=2e-6)


# ---------------------------------------------------------------- units


def test_a_unit_is_explained_by_every_method():
    x = numbers(10, 2, 3)
    model = attribute.unit(mlp, "first", 3)
    value = lambda x: jnp.tanh(x @ numbers(0, 3, 5) + numbers(1, 5))[:, 3]
    np.testing.assert_allclose(model(x), value(x), rtol=1e-14)
    gradient = jax.grad(lambda x: value(x).sum())(x)
    np.testing.assert_allclose(attribute.gradient(model, x).values, gradient, rtol=1e-12)
    np.testing.assert_allclose(attribute.integrated_gradients(model, x, steps=20).gap, 0.0, atol=1e-12)


def test_which_unit():
    x = numbers(12, 2, 3, 4)
    stream = dp.activations(transformer, "stream")(x)["stream"]
    np.testing.assert_allclose(attribute.unit(transformer, "stream", (1, 2, 3))(x), stream[1, :, 2, 3])
    np.testing.assert_allclose(attribute.unit(transformer, "stream", 3)(x), stream[..., 3].mean(axis=(0, 2)))
    np.testing.assert_allclose(attribute.unit(transformer, "stream")(x), stream.mean(axis=(0, 2, 3)))


@pytest.mark.parametrize("index", [5, (0, 0), -6])
def test_a_unit_that_is_not_there_is_refused(index):
    with pytest.raises(ValueError, match="is none of the value at 'first'"):
        attribute.unit(mlp, "first", index)(numbers(10, 2, 3))


def test_a_place_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="did you mean 'second'"):
        attribute.conductance(mlp, numbers(10, 2, 3), 0, at="secnd")
