"""The gradient, times the input and over noise, against closed forms, in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.scipy.stats import norm

import diffprog as dp
from diffprog import attribute

MATRIX = np.array([[2.0, 0.5, -1.0], [0.5, 1.0, 0.3], [-1.0, 0.3, 3.0]])
X = np.array([[1.0, -2.0, 0.5], [0.3, 0.1, -1.0]])


def quadratic(x):
    return jnp.einsum("ni,ij,nj->n", x, MATRIX, x) / 2


def test_gradient_of_a_quadratic(x64):
    found = attribute.gradient(quadratic, X)
    np.testing.assert_allclose(found.values, X @ MATRIX, rtol=1e-14)
    assert found.gap is None and list(found.evaluations) == [1, 1]


def test_times_input_is_the_score_of_a_net_without_biases(x64):
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(3, 20)), generator.normal(size=(20, 3))
    net = lambda x: jax.nn.relu(jax.nn.relu(x @ first) @ second).sum(axis=1)
    found = attribute.gradient_times_input(net, X)
    np.testing.assert_allclose(found.values.sum(axis=1), net(X), rtol=1e-14)
    np.testing.assert_allclose(found.gap, 0, atol=1e-14)
    # Euler: of a function of degree 3, three times the score.
    cubic = attribute.gradient_times_input(lambda x: net(x) ** 3, X)
    np.testing.assert_allclose(cubic.values.sum(axis=1), 3 * np.asarray(net(X)) ** 3, rtol=1e-13)


def test_smooth_gradient_of_a_quadratic(x64):
    noise = 0.3
    options = {"noise": noise, "is_absolute": True, "samples": 20_000, "key": 1}
    variance = noise**2 * np.sum(MATRIX**2, axis=1)  # of each element of A (x + noise)
    truths = {
        "mean": X @ MATRIX,
        "square": (X @ MATRIX) ** 2 + variance,
        "variance": np.broadcast_to(variance, X.shape),
    }
    for moment, truth in truths.items():
        found = attribute.smooth_gradient(quadratic, X, moment=moment, **options)
        assert (np.abs(found.values - truth) < 4.5 * found.error).all()
        assert (found.error < 0.05 * np.abs(truth).max()).all()


def test_smooth_gradient_of_one_unit(x64):
    weights, bias, noise = np.array([1.0, -2.0, 0.5]), 0.4, 0.7
    unit = lambda x: jax.nn.relu(x @ weights + bias)
    found = attribute.smooth_gradient(unit, X, noise=noise, is_absolute=True, samples=20_000, key=0)
    share = norm.cdf((X @ weights + bias) / (noise * np.linalg.norm(weights)))
    assert (np.abs(found.values - weights * share[:, None]) < 4.5 * found.error + 1e-12).all()


def test_a_small_variance_of_large_gradients(x64):
    """E[g^2] - E[g]^2 in single precision gives 8 or -8 here."""
    model = lambda x: jnp.float32(1e4) * x[:, 0] + jnp.float32(0.01) * x[:, 0] ** 2
    options = {"noise": 1.0, "is_absolute": True, "samples": 2000, "key": 0}
    found = attribute.smooth_gradient(model, np.ones((1, 1), np.float32), moment="variance", **options)
    # The gradient itself is known to a unit in the last place of 1e4, 1e-3, which adds its square / 12.
    np.testing.assert_allclose(found.values, 4e-4, rtol=0.1)


def test_noise_is_a_part_of_each_range(x64):
    found = attribute.smooth_gradient(quadratic, X, noise=0.1, samples=4000, key=0, moment="variance")
    spread = X.max(axis=1) - X.min(axis=1)
    truth = (0.1 * spread[:, None]) ** 2 * np.sum(MATRIX**2, axis=1)
    assert (np.abs(found.values - truth) < 4.5 * found.error).all()


def test_both_engines_agree(x64):
    ours, theirs = (attribute.gradient(quadratic, X, engine=engine).values for engine in ("diffprog", "jax"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-15)


def test_nothing_depends_on_the_batch_the_chunk_or_the_order():
    weights = jax.random.normal(jax.random.key(0), (3, 8))
    net = lambda x: jnp.sum(jnp.tanh(x @ weights) ** 2, axis=1)
    x = jax.random.normal(jax.random.key(1), (7, 3))
    options = {"noise": 0.2, "samples": 5, "key": 3}
    whole = attribute.smooth_gradient(net, x, **options)
    reversed_ = attribute.smooth_gradient(net, x[::-1], **options)
    np.testing.assert_array_equal(whole.values, reversed_.values[::-1])
    for chunk in (1, 300, 1000):
        found = attribute.smooth_gradient(net, x, chunk=chunk, **options)
        np.testing.assert_array_equal(found.values, whole.values)
    for row in range(7):
        alone = attribute.smooth_gradient(net, x[row : row + 1], **options)
        np.testing.assert_array_equal(alone.values[0], whole.values[row])
        np.testing.assert_array_equal(alone.error[0], whole.error[row])


def test_inputs_of_any_form(x64):
    def model(inputs):
        return inputs["a"].sum(axis=(1, 2)) ** 2 * inputs["scale"] + inputs["ids"][:, 0]

    inputs = {"a": jnp.ones((2, 3, 2)), "ids": jnp.array([[1], [2]]), "scale": jnp.array([2.0, 3.0])}
    found = attribute.gradient(model, inputs)
    np.testing.assert_allclose(found.values["a"], np.broadcast_to([[[24.0]], [[36.0]]], (2, 3, 2)))
    np.testing.assert_allclose(found.values["scale"], [36, 36])
    assert found.values["ids"] is None
    with pytest.raises(ValueError, match="credit goes to floats"):
        attribute.gradient(lambda ids: ids.sum(axis=1) * 1.0, jnp.array([[1, 2]]))


def test_token_ids_are_explained_at_their_embedding(x64):
    table = np.random.default_rng(0).normal(size=(10, 4))
    model = lambda ids: jnp.sum(dp.tap(jnp.asarray(table)[ids], "embedding") ** 2, axis=(1, 2))
    ids = jnp.array([[1, 2, 5], [0, 9, 9]])
    found = attribute.gradient_times_input(model, ids, at="embedding")
    np.testing.assert_allclose(found.values["embedding"], 2 * table[ids] * (table[ids] - table[0]), rtol=1e-14)


def test_a_dead_unit_is_named():
    with pytest.warns(attribute.AttributionWarning, match="1 of 2 examples"):
        attribute.gradient(lambda x: jax.nn.relu(x[:, 0] - 2), jnp.array([[1.0], [3.0]]))


def test_a_score_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="score of the inputs is nan for example 1"):
        attribute.gradient(lambda x: jnp.log(x[:, 0]), jnp.array([[1.0], [-1.0]]))
    with pytest.raises(ValueError, match="example 0 has NaN"):
        attribute.gradient(lambda x: x[:, 0], jnp.array([[np.nan]]))


def test_a_changed_model_gives_new_results_and_compiles_nothing():
    weights = {"w": jnp.ones((3, 2))}
    model = lambda x: jnp.tanh(x @ weights["w"]).sum(axis=1)
    first = attribute.gradient(model, X)
    weights["w"] = 2 * weights["w"]
    second = attribute.gradient(model, X)
    truth = jax.grad(lambda x: jnp.tanh(x @ weights["w"]).sum())(jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(second.values, truth, rtol=1e-6)
    assert not np.array_equal(first.values, second.values)


def test_a_model_that_mixes_examples_is_warned_of():
    normalized = lambda x: jnp.sum((x - x.mean(axis=0)) ** 3, axis=1)
    with pytest.warns(attribute.AttributionWarning, match="depends on the others"):
        attribute.gradient(normalized, X)
    with pytest.warns(attribute.AttributionWarning, match="depends on the others"):
        attribute.gradient(normalized, X[:1])


def test_a_module_without_its_variables_is_named():
    module = nn.Dense(3)
    with pytest.raises(ValueError, match=r"give lambda inputs: module\.apply"):
        attribute.gradient(module.apply, X, 0)
