"""ROAD: imputation against its equations, and curves against direct computation."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.attribute import features, measures
from diffprog.attribute.measures._removal import impute

GENERATOR = np.random.default_rng(0)


def neighbors(row, column, height, width):
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            if (i or j) and 0 <= row + i < height and 0 <= column + j < width:
                yield row + i, column + j, 1 / 6 if i == 0 or j == 0 else 1 / 12


def test_every_pixel_is_the_mean_of_its_neighbors():
    image, gone = GENERATOR.uniform(size=(9, 7, 3)), GENERATOR.uniform(size=(9, 7)) < 0.8
    filled = impute(image, gone)
    np.testing.assert_array_equal(filled[~gone], image[~gone])
    for row, column in np.argwhere(gone):
        weights = list(neighbors(row, column, 9, 7))
        mean = sum(w * filled[r, c] for r, c, w in weights) / sum(w for _, _, w in weights)
        np.testing.assert_allclose(filled[row, column], mean, rtol=1e-12)


def test_a_ramp_is_filled_in_exactly():
    """A linear picture is harmonic: what is gone inside comes back."""
    image = (2.0 * np.arange(12)[:, None] - 0.5 * np.arange(10))[..., None]
    gone = np.zeros((12, 10), bool)
    gone[2:9, 3:8] = True
    np.testing.assert_allclose(impute(image, gone), image, atol=1e-12)


def test_curves_are_scores_of_the_filled_pictures(x64):
    images = GENERATOR.uniform(size=(2, 6, 6, 2))
    weights = GENERATOR.normal(size=(6, 6, 2))
    model = lambda x: jnp.sin(x * weights).sum(axis=(1, 2, 3))
    credit = GENERATOR.normal(size=(2, 6, 6))
    curves = {}
    for order, sign in (("most", 1), ("least", -1)):
        found = measures.road(model, images, credit, order=order, noise=0, shares=[0.25, 0.75])
        curves[order] = found.curve
        for row in range(2):
            for point, count in enumerate((9, 27)):
                threshold = np.sort(sign * credit[row].ravel())[-count]
                filled = impute(images[row], sign * credit[row] >= threshold)
                np.testing.assert_allclose(found.curve[row, point], model(filled[None])[0], rtol=1e-10)
    both = measures.road(model, images, credit, noise=0, shares=[0.25, 0.75])
    np.testing.assert_allclose(both.curve, (curves["least"] - curves["most"]) / 2, rtol=1e-10)
    np.testing.assert_allclose(both.value, both.curve.mean(axis=1))
    assert list(both.evaluations) == [4, 4] and (both.value != 0).all()


def test_the_truth_is_better_than_its_opposite():
    images = GENERATOR.uniform(size=(2, 8, 8, 3)).astype(np.float32)
    weights = jnp.asarray(GENERATOR.normal(size=(8, 8, 3)), jnp.float32)
    model = lambda x: (x * weights).sum(axis=(1, 2, 3))
    credit = np.asarray(weights) * (images - images.mean())
    good, bad = (measures.road(model, images, sign * credit).value for sign in (1, -1))
    assert (good > 0).all()
    np.testing.assert_allclose(good, -bad, rtol=1e-5)  # what goes first and what goes last change places
    patches = measures.road(model, images, credit, features=features.patches(2))
    assert (patches.value > 0).all()


def test_one_example_is_measured_like_many():
    images = GENERATOR.uniform(size=(3, 6, 6, 1)).astype(np.float32)
    model = lambda x: jnp.tanh(x).sum(axis=(1, 2, 3))
    credit = GENERATOR.normal(size=(3, 6, 6))
    many = measures.road(model, images, credit, key=3)
    for row in range(3):
        one = measures.road(model, images[row : row + 1], credit[row : row + 1], key=3)
        np.testing.assert_array_equal(one.curve[0], many.curve[row])


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 6, 6, 1), {"shares": [0.5, 1.0]}, "shares must be increasing, each of at least one and not all 36"),
        ((2, 6, 6, 1), {"shares": [0.5, 0.2]}, "shares must be increasing"),
        ((2, 6, 6, 1), {"order": "first"}, "order must be one of 'both', 'most', 'least'; found 'first'"),
        ((2, 6), {}, "road fills in images"),
    ],
)
def test_bad_input_gets_a_sentence(shape, options, message):
    model = lambda x: x.reshape(len(x), -1).sum(axis=1)
    with pytest.raises(ValueError, match=message):
        measures.road(model, np.ones(shape, np.float32), np.ones(shape), **options)
