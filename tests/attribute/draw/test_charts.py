"""The film of a path, and the score as a stack of parts."""

import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog import attribute, models
from diffprog.attribute import ScoreByDepth, pictures
from diffprog.attribute._draw.charts import COLORS


def rgb(color):
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def test_heights_of_a_stack_are_its_parts():
    parts = {"values": np.array([-1.0, 4.0]), "biases": np.array([3.0, -2.0]), "saturated": np.array([2.0, 2.0])}
    drawn = pictures.strip(ScoreByDepth(("a", "b"), parts, 4.0, np.zeros(2)))
    heights = {}
    for name, color in zip(parts, COLORS, strict=False):
        is_color = np.abs(drawn - rgb(color)).max(axis=-1) < 0.02
        is_color[:70] = False  # the legend
        # The dashed line of the total hides some rows of some columns; the tallest column of pixels has all of them.
        heights[name] = [is_color[:, 500 * i : 500 * (i + 1)].sum(axis=0).max() for i in range(2)]
    unit = heights["values"][1] / 4
    for name, values in parts.items():
        np.testing.assert_allclose(heights[name], np.abs(values) * unit, atol=3)


def test_a_film_shows_points_and_what_they_add():
    points = np.linspace(0, 1, 5)
    images = np.broadcast_to(points[:, None, None, None], (5, 10, 10, 3)) * np.array([1.0, 0.5, 0.25])
    drawn = pictures.film(points, points**2, 1 - points, images, np.ones((5, 10, 10)), frames=3, cell=60)
    assert drawn.shape[1] == 3 * 65 + 5
    for column, part in enumerate((0.0, 0.5, 1.0)):
        frame = drawn[:, 5 + 65 * column + 30]
        wanted = part * np.array([1.0, 0.5, 0.25])
        assert (np.abs(frame - wanted).max(axis=-1) < 0.01).sum() >= 58
    with pytest.raises(ValueError, match="as many parts, scores, slopes, images and maps, 2 or more; found 5, 4"):
        pictures.film(points, points[:4], points, images, images)


def network(x):
    """Two layers with ReLU6, written by hand."""
    w = jnp.array([[3.0, -1.0, 0.5], [2.0, 1.0, -4.0]], x.dtype)
    hidden = dp.tap(jnp.clip(x @ w + jnp.array([[0.5, 0.2, -0.1]], x.dtype), 0, 6), "hidden")
    return dp.tap(hidden @ jnp.array([[1.0], [-2.0], [3.0]], x.dtype) + jnp.array([[0.7]], x.dtype), "out")[:, 0]


def test_parts_by_depth_are_values_biases_and_saturated_units(x64):
    # Before the clip: (3 x 1 + 2 x 2 + .5, -1 + 2 + .2, .5 - 8 - .1) = (7.5, 1.2, -7.6), behind it (6, 1.2, 0).
    found = attribute.score_by_depth(network, np.array([1.0, 2.0]), at=["input", "hidden", "out"])
    assert found.score == pytest.approx(6 - 2.4 + 0.7)
    np.testing.assert_allclose(found.gap, 0, atol=1e-12)
    np.testing.assert_allclose(found.parts["values of the layer"], [-2.0 * (-1 + 2), 3.6, 4.3], atol=1e-12)
    np.testing.assert_allclose(found.parts["biases behind it"], [-2 * 0.2 + 0.7, 0.7, 0], atol=1e-12)
    np.testing.assert_allclose(found.parts["saturated units behind it"], [6.0, 0, 0], atol=1e-12)
    with pytest.raises(ValueError, match="at must name the layers of a plain function"):
        attribute.score_by_depth(network, np.array([1.0, 2.0]))


def test_a_model_is_taken_apart_at_its_layers():
    model = models.load("digits")
    image = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8, 1)
    found = attribute.score_by_depth(model, image, 3)
    assert found.layers == ("input", "hidden.0")
    assert found.score == pytest.approx(float(model(image[None])[0, 3]), rel=1e-5)
    np.testing.assert_allclose(found.gap, 0, atol=1e-4 * abs(found.score))


@pytest.mark.slow
def test_most_of_a_logit_of_lite0_is_in_saturated_units():
    """The network's total was also found by summing biases times their gradients by themselves."""
    from diffprog.cli._attack import CAT
    from diffprog.images import network_crop, read_image

    model = models.load("efficientnet_lite0")
    found = attribute.score_by_depth(model, network_crop(read_image(CAT)), 282)
    assert found.layers == ("input", "stem", *(f"blocks.{i}" for i in range(16)), "head")
    np.testing.assert_allclose(found.gap, 0, atol=1e-6 * found.score)
    at_input = [values[0] for values in found.parts.values()]
    # Inputs -0.745; offset of the pixels and biases 4.262 - 1.547; saturated units 7.196.
    np.testing.assert_allclose(at_input, [-0.745, 4.262 - 1.547, 7.196], atol=2e-3)
