"""What every method promises, held for all of them: one table, closed forms, double precision."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog import attribute

GENERATOR = np.random.default_rng(0)
FIRST, BIAS, SECOND = GENERATOR.normal(size=(4, 9)), GENERATOR.normal(size=9), GENERATOR.normal(size=(9, 2))
X = GENERATOR.normal(size=(3, 4))
BASELINE = np.array([0.1, -0.2, 0.3, 0.0])
DATA = GENERATOR.normal(size=(5, 4))

RELUS = {
    "maximum": lambda x: jnp.maximum(x, 0),
    "where": lambda x: jnp.where(x > 0, x, 0),
    "product": lambda x: x * (x > 0),
    "clip": lambda x: jnp.clip(x, 0, jnp.inf),
    "absolute": lambda x: (x + jnp.abs(x)) / 2,
    "jax": jax.nn.relu,
}


def conductance_of_inputs(model, inputs, score):
    at_inputs = lambda x: model(dp.tap(1.0 * x, "x"))
    found = attribute.conductance(at_inputs, inputs, score, at="x", baseline=BASELINE, steps=16)
    return replace(found, values=found.values["x"])


# Each is called with (model, inputs, score); `COMPLETE` add up to score - baseline_score, at X with BASELINE or DATA.
METHODS = {
    "gradient": attribute.gradient,
    "gradient_times_input": lambda *a: attribute.gradient_times_input(*a, baseline=BASELINE),
    "smooth_gradient": lambda *a: attribute.smooth_gradient(*a, key=0, samples=6, noise=0.1),
    "smooth_gradient, squares": lambda *a: attribute.smooth_gradient(*a, key=0, samples=6, noise=0.1, moment="square"),
    "smooth_gradient, variance": lambda *a: attribute.smooth_gradient(
        *a, key=0, samples=6, noise=0.1, moment="variance"
    ),
    "integrated_gradients": lambda *a: attribute.integrated_gradients(*a, baseline=BASELINE, steps=16),
    "guided_integrated_gradients": lambda *a: attribute.guided_integrated_gradients(*a, baseline=BASELINE, steps=16),
    "conductance": conductance_of_inputs,
    "expected_gradients": lambda *a: attribute.expected_gradients(*a, baseline=DATA, key=0, samples=12),
    "deeplift": lambda *a: attribute.deeplift(*a, baseline=BASELINE),
    "deeplift, reveal_cancel": lambda *a: attribute.deeplift(*a, baseline=BASELINE, rule="reveal_cancel"),
    "lrp": lambda *a: attribute.lrp(*a, rules=attribute.rules.zero()),
    "lrp, gamma": lambda *a: attribute.lrp(*a, rules=attribute.rules.gamma(0.25)),
    "attention_lrp": attribute.attention_lrp,
    "guided_backprop": attribute.guided_backprop,
    "deconvnet": attribute.deconvnet,
    "occlusion": lambda *a: attribute.occlusion(*a, baseline=BASELINE, window=1),
    "feature_ablation": lambda *a: attribute.feature_ablation(*a, baseline=BASELINE),
    "feature_permutation": lambda *a: attribute.feature_permutation(*a, data=DATA, key=0, samples=3),
    "rise": lambda *a: attribute.rise(*a, baseline=BASELINE, features=attribute.features.columns()),
    "lime": lambda *a: attribute.lime(*a, baseline=BASELINE, samples=16),
    "shapley": lambda *a: attribute.shapley(*a, baseline=BASELINE),
    "shapley, sampled": lambda *a: attribute.shapley(*a, baseline=BASELINE, key=0, samples=6),
    "shapley, of data": lambda *a: attribute.shapley(*a, baseline=DATA),
    "kernel_shap": lambda *a: attribute.kernel_shap(*a, baseline=BASELINE),
    "owen_values": lambda *a: attribute.owen_values(*a, baseline=BASELINE, groups=[[0, 1], [2, 3]]),
}
COMPLETE = {  # up to rounding, for any network
    "deeplift",
    "deeplift, reveal_cancel",
    "kernel_shap",
    "lrp",
    "lrp, gamma",
    "owen_values",
    "shapley",
    "shapley, of data",
    "shapley, sampled",
}
LINEAR_EXACT = {
    "conductance",
    "deeplift",
    "deeplift, reveal_cancel",
    "gradient_times_input",
    "feature_ablation",
    "guided_integrated_gradients",
    "integrated_gradients",
    "kernel_shap",
    "lime",
    "occlusion",
    "owen_values",
    "shapley",
    "shapley, sampled",
}  # w (x - b) for a linear model
LINEAR_IN_THE_MODEL = set(METHODS) - {
    "attention_lrp",  # its epsilon is added to sums
    "deconvnet",
    "guided_backprop",
    "guided_integrated_gradients",  # the way depends on the model
    "smooth_gradient, squares",
    "smooth_gradient, variance",
}
every_method = pytest.mark.parametrize("method", METHODS)


def network(relu=jax.nn.relu):
    # Arrays of JAX: of NumPy's, JAX remembers the type that they had first, in single or in double precision.
    first, bias, second = map(jnp.asarray, (FIRST, BIAS, SECOND))
    return lambda x: relu(x @ first + bias) @ second


@every_method
def test_spellings_of_a_relu_agree(x64, method):
    expected = METHODS[method](network(), X, 1)
    for spelling, relu in RELUS.items():
        found = METHODS[method](network(relu), X, 1)
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-9, atol=1e-12, err_msg=spelling)


@every_method
def test_rows_know_nothing_of_each_other(method):
    model = network()
    whole, reversed_ = METHODS[method](model, X, 1), METHODS[method](model, X[::-1], 1)
    np.testing.assert_array_equal(reversed_.values[::-1], whole.values)
    for row in range(len(X)):
        alone = METHODS[method](model, X[row : row + 1], 1)
        for name in ("values", "score", "baseline_score", "gap", "error"):
            one, many = getattr(alone, name), getattr(whole, name)
            assert (one is None) == (many is None)
            if one is not None:
                np.testing.assert_array_equal(one[0], many[row], err_msg=name)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"rise"}))  # whose values are near the mean score
def test_what_is_not_read_gets_nothing(x64, method):
    found = METHODS[method](lambda x: jnp.tanh(x[:, :3]) @ FIRST[:3, :2], X, 0)
    np.testing.assert_allclose(found.values[:, 3], 0, atol=1e-14)
    assert np.abs(found.values[:, :3]).min() > 0


@pytest.mark.parametrize("method", sorted(LINEAR_IN_THE_MODEL))
def test_credit_is_linear_in_the_model(x64, method):
    one, other = network(), lambda x: jnp.tanh(x) @ FIRST[:, :2]
    both = METHODS[method](lambda x: one(x) + 2 * other(x), X, 0)
    parts = METHODS[method](one, X, 0).values + 2 * METHODS[method](other, X, 0).values
    np.testing.assert_allclose(both.values, parts, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("method", sorted(LINEAR_EXACT))
def test_a_linear_model_is_explained_exactly(x64, method):
    weights = np.array([1.0, -2.0, 0.5, 3.0])
    found = METHODS[method](lambda x: x @ weights + 7, X, None)
    np.testing.assert_allclose(found.values, weights * (X - BASELINE), rtol=1e-11)
    if found.gap is not None:
        np.testing.assert_allclose(found.gap, 0, atol=1e-12)


@pytest.mark.parametrize("method", sorted(COMPLETE))
def test_complete_methods_leave_no_gap(x64, method):
    found = METHODS[method](lambda x: jnp.tanh(network()(x)), X, 1)
    np.testing.assert_allclose(found.gap, 0, atol=1e-12)
    total = found.score - found.baseline_score
    np.testing.assert_allclose(np.asarray(found.values).reshape(len(X), -1).sum(axis=1), total, rtol=1e-10)
