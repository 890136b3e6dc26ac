import jax
import numpy as np

from diffprog.fit import mlp


def test_apply_is_the_textbook_formula():
    parameters = mlp.initialize(jax.random.key(0), (5, 7, 6, 3))
    inputs = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    (w0, b0), (w1, b1), (w2, b2) = [(np.asarray(w, np.float64), np.asarray(b, np.float64) + 0.1) for w, b in parameters]
    shifted = [(w, b + 0.1) for w, b in parameters]
    expected = np.maximum(np.maximum(inputs @ w0 + b0, 0) @ w1 + b1, 0) @ w2 + b2
    np.testing.assert_allclose(mlp.apply(shifted, inputs), expected, rtol=1e-5, atol=1e-6)


def test_first_weights_keep_the_scale_of_activations():
    (weights, bias), _ = mlp.initialize(jax.random.key(1), (400, 300, 10))
    np.testing.assert_allclose(np.std(weights), np.sqrt(2 / 400), rtol=0.02)
    np.testing.assert_allclose(np.mean(weights), 0, atol=1e-3)
    np.testing.assert_array_equal(bias, 0)
