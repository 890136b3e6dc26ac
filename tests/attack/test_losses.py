import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack import cross_entropy, dlr, margin
from diffprog.attack._losses import likely_target_classes, other_class, targeted_dlr
from diffprog.optimize import ENGINES
from diffprog.optimize._engine import value_and_grad

LOGITS = jnp.log(jnp.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
LABELS = jnp.array([0, 1])


def test_cross_entropy_per_image():
    np.testing.assert_allclose(cross_entropy(LOGITS, LABELS), [np.log(2), np.log(10)], rtol=1e-6)


def test_margin_is_positive_exactly_where_the_prediction_is_wrong():
    np.testing.assert_allclose(margin(LOGITS, LABELS), [np.log(0.3 / 0.5), np.log(0.8 / 0.1)], rtol=1e-6)


def test_margin_keeps_its_gradient_where_cross_entropy_saturates():
    logits = jnp.array([[200.0, 0.0, 1.0]], jnp.float32)
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


def test_ratios_of_ties_are_numbers():
    """Where the third logit is the first, the scale is 0."""
    ties, labels, rivals = jnp.array([[1.0, 1, 1, 1], [3, 3, 3, 0]]), jnp.array([0, 3]), jnp.array([1, 0])
    for ratio in (lambda z: dlr(z, labels), lambda z: targeted_dlr(z, labels, rivals)):
        values, slopes = jax.jit(lambda z, ratio=ratio: (ratio(z), jax.grad(lambda z: ratio(z).sum())(z)))(ties)
        assert values[0] == 0 and values[1] > 1 and np.isfinite(values).all() and np.isfinite(slopes).all()


def test_infinite_masks_leave_no_nan_in_gradients():
    """A label far ahead, and far behind: the gradients in closed form, by both engines."""
    logits, labels = jnp.array([[-300.0, -301.0, -500.0], [-5.0, 400.0, 400.0]]), jnp.array([0, 0])
    for engine in ENGINES:

        def slope(loss, engine=engine):
            return jax.jit(value_and_grad(engine)(lambda z: loss(z, labels).sum()))(logits)[1]

        np.testing.assert_array_equal(slope(margin)[0], [-1, 1, 0])
        sure = np.e / (1 + np.e)  # the label's probability, against the second class
        np.testing.assert_allclose(slope(other_class), [[-sure, sure, 0], [0, 0, 0]], atol=1e-6)


def test_rivals_come_in_the_order_of_their_logits_without_the_label():
    logits = np.array([[4.0, 1.0, 2.5, -1.0], [0.0, 3.0, 1.0, 2.0]])
    np.testing.assert_array_equal(likely_target_classes(9)(logits, np.array([0, 2])), [[2, 1], [1, 3], [3, 0]])
    np.testing.assert_array_equal(likely_target_classes(2)(logits, np.array([0, 2])), [[2, 1], [1, 3]])
