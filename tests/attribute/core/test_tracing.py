"""Programs that are kept with a model: as fast as if nothing could change, and never stale."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog import attribute, models
from diffprog.attribute._core import tracing
from diffprog.attribute._core.question import pose

X = np.random.default_rng(0).uniform(size=(3, 5)).astype(np.float32)
ROUNDING = {"rtol": 1e-5, "atol": 1e-6}  # of sums in single precision, whose terms are about 1


class Counted:
    """A network of two layers, that counts how often it is traced or run."""

    def __init__(self):
        self.calls = 0

    def __call__(self, parameters, x):
        self.calls += 1
        yield "hidden", (hidden := dp.tap(jnp.tanh(x @ parameters["first"]), "hidden"))
        yield "logits", hidden @ parameters["second"]


def counted_model():
    generator = np.random.default_rng(1)
    arrays = {"first": generator.normal(size=(5, 6)), "second": generator.normal(size=(6, 4))}
    parameters = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), arrays)
    return models.Model("counted", Counted(), parameters, (), size=(), min_size=1, channels=5)


def slope(parameters, x, index):
    logit = lambda x: (jnp.tanh(x @ parameters["first"]) @ parameters["second"])[:, index].sum()
    return jax.grad(logit)(jnp.asarray(x))


def test_a_model_is_traced_once_for_all_classes():
    model = counted_model()
    attribute.gradient(model, X, 0)
    calls = model.network.calls
    for score in (1, 3, np.array([0, 2, 1])):
        found = attribute.gradient(model, X[::-1], score)
        classes = np.broadcast_to(score, 3)
        truth = [slope(model.parameters, x[None], index)[0] for x, index in zip(X[::-1], classes, strict=True)]
        np.testing.assert_allclose(found.values, truth, **ROUNDING)
    attribute.integrated_gradients(model, X, 2)
    assert model.network.calls == calls


def test_parameters_that_are_changed_in_place_are_seen():
    model = counted_model()
    at_hidden = lambda: attribute.gradient_times_input(model, X, 1, at="hidden").values["hidden"]
    first, inside = attribute.gradient(model, X, 1).values, at_hidden()
    calls = model.network.calls
    model.parameters["first"] = 2 * model.parameters["first"]
    np.testing.assert_allclose(attribute.gradient(model, X, 1).values, slope(model.parameters, X, 1), **ROUNDING)
    assert np.abs(attribute.gradient(model, X, 1).values - first).max() > 0.1
    hidden = jnp.tanh(X @ model.parameters["first"])
    np.testing.assert_allclose(at_hidden(), hidden * model.parameters["second"][:, 1], **ROUNDING)
    assert np.abs(at_hidden() - inside).max() > 0.1
    assert model.network.calls == calls
    model.parameters.update(first=jnp.ones((5, 9)), second=jnp.ones((9, 4)))  # of another shape
    np.testing.assert_allclose(attribute.gradient(model, X, 1).values, slope(model.parameters, X, 1), **ROUNDING)


def test_another_network_of_the_same_form_is_another_question():
    model = counted_model()
    other = replace(model, parameters=jax.tree.map(jnp.negative, model.parameters))
    attribute.gradient(model, X, 1)
    np.testing.assert_allclose(attribute.gradient(other, X, 1).values, slope(other.parameters, X, 1), **ROUNDING)


def test_a_score_that_is_a_function_is_traced_each_time():
    model, factor = counted_model(), {"of": 1.0}
    score = lambda logits: factor["of"] * logits[:, 0]
    first = attribute.gradient(model, X, score).values
    factor["of"] = 2.0
    np.testing.assert_allclose(attribute.gradient(model, X, score).values, 2 * first, rtol=1e-6)


def test_a_model_under_an_intervention_is_traced_anew():
    model = counted_model()
    attribute.gradient(model, X, 1)

    def credit(x):
        return attribute.gradient(model, x, 1).values

    doubled = dp.intervene(credit, {"hidden": lambda hidden: 2 * hidden})(X)
    np.testing.assert_allclose(doubled, 2 * slope(model.parameters, X, 1), **ROUNDING)
    np.testing.assert_allclose(credit(X), slope(model.parameters, X, 1), **ROUNDING)


def test_settings_of_jax_are_seen():
    model = counted_model()
    assert attribute.gradient(model, X, 1).values.dtype == np.float32
    seen = []

    def network(parameters, x):
        seen.append(jax.config.jax_default_matmul_precision)
        yield "logits", x @ parameters["first"]

    model = replace(model, network=network)
    attribute.gradient(model, X, 1)
    with jax.default_matmul_precision("float32"):
        attribute.gradient(model, X, 1)
    assert set(seen) == {None, "float32"}


def test_a_function_is_traced_once_in_a_later_call_and_its_block_is_the_same():
    weights, calls = {"w": jnp.ones((5, 3))}, []

    def model(x):
        calls.append(x.shape[0])
        return jnp.tanh(x @ weights["w"]).sum(axis=1)

    block = pose(model, X).block
    calls.clear()
    assert pose(model, X).block == block
    assert calls == [block]
    # A function of the same code that does more has a block of its own, whatever the first one had.
    weights["w"] = jnp.ones((5, 30_000))
    fresh = pose(lambda x: jnp.tanh(x @ weights["w"]).sum(axis=1), X).block
    assert pose(model, X).block == fresh == pose(model, X).block < block
    assert len(tracing._blocks) <= tracing.NUM_KNOWN


def test_a_class_that_is_none_is_named():
    for model in (counted_model(), lambda x: x @ jnp.ones((5, 4))):
        for score in (4, np.array([0, 1, 4])):
            with pytest.raises(ValueError, match=r"classes 0 to 3; found 4|4 is no class: the output has 4 of them"):
                attribute.gradient(model, X, score)
