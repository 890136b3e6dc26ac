import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack import cross_entropy, dlr, margin
from diffprog.attack.losses import likely_rivals, targeted_dlr

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


def test_ratios_do_not_see_scale_nor_offset():
    logits = jnp.array([[4.0, 1.0, 2.5, -1.0], [0.0, 3.0, 1.0, 2.0]])
    labels, rivals = jnp.array([0, 2]), jnp.array([2, 0])
    np.testing.assert_allclose(dlr(logits, labels), [-(4 - 2.5) / (4 - 1), (3 - 1) / (3 - 1)], rtol=1e-6)
    np.testing.assert_allclose(targeted_dlr(logits, labels, rivals), [-1.5 / (4 - 0), -1 / (3 - 0.5)], rtol=1e-6)
    np.testing.assert_allclose(dlr(7 * logits - 3, labels), dlr(logits, labels), rtol=1e-5)


def test_ratios_of_few_classes():
    three, two = jnp.array([[4.0, 1.0, 2.5]]), jnp.array([[4.0, 1.0]])
    zero, one = jnp.array([0]), jnp.array([1])
    np.testing.assert_allclose(targeted_dlr(three, zero, one), [-3 / (4 - 1)], rtol=1e-6)
    np.testing.assert_array_equal(targeted_dlr(two, zero, one), [-3])
    np.testing.assert_array_equal(dlr(two, zero), [-3])


def test_rivals_come_in_the_order_of_their_logits_without_the_label():
    logits = np.array([[4.0, 1.0, 2.5, -1.0], [0.0, 3.0, 1.0, 2.0]])
    np.testing.assert_array_equal(likely_rivals(9)(logits, np.array([0, 2])), [[2, 1], [1, 3], [3, 0]])
    np.testing.assert_array_equal(likely_rivals(2)(logits, np.array([0, 2])), [[2, 1], [1, 3]])
