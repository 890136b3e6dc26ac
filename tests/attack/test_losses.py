import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack import cross_entropy, margin

LOGITS = jnp.log(jnp.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
LABELS = jnp.array([0, 1])


def test_cross_entropy_per_image():
    np.testing.assert_allclose(cross_entropy(LOGITS, LABELS), [np.log(2), np.log(10)], rtol=1e-6)


def test_margin_is_positive_exactly_where_the_prediction_is_wrong():
    np.testing.assert_allclose(margin(LOGITS, LABELS), [np.log(0.3 / 0.5), np.log(0.8 / 0.1)], rtol=1e-6)


def test_margin_keeps_its_gradient_where_cross_entropy_saturates():
    logits = jnp.array([[200.0, 0.0, 1.0]])
    label = jnp.array([0])
    np.testing.assert_array_equal(jax.grad(lambda z: margin(z, label).sum())(logits), [[-1, 0, 1]])
    np.testing.assert_array_equal(jax.grad(lambda z: cross_entropy(z, label).sum())(logits), 0)
