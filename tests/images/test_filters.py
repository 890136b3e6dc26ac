"""Filters of image arrays, against SciPy and Pillow, and the checks of images."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from diffprog.images import resize
from diffprog.images._checks import check_array, check_images
from diffprog.images._filters import gaussian_blur

IMAGES = np.random.default_rng(0).uniform(size=(2, 17, 23, 3)).astype(np.float32)


@pytest.mark.parametrize("edge, mode", [("repeat", "nearest"), ("zero", "constant")])
@pytest.mark.parametrize("deviation, radius", [(0.8, 3), (1.5, 4), (3.0, 9)])
def test_blur_agrees_with_scipy_at_each_edge(edge, mode, deviation, radius):
    expected = gaussian_filter(IMAGES.astype(np.float64), (0, deviation, deviation, 0), mode=mode, radius=radius)
    np.testing.assert_allclose(gaussian_blur(jnp.asarray(IMAGES), deviation, radius, edge), expected, atol=1e-6)
    np.testing.assert_allclose(gaussian_blur(jnp.asarray(IMAGES[0]), deviation, radius, edge), expected[0], atol=1e-6)


def test_a_blur_of_no_width_changes_nothing():
    np.testing.assert_array_equal(gaussian_blur(jnp.asarray(IMAGES), 0.0, 3), IMAGES)


def test_resizing_without_rounding_is_pillows_of_floats():
    image = 5 * IMAGES[0] - 2
    expected = [Image.fromarray(image[..., c]).resize((11, 30), Image.Resampling.BICUBIC) for c in range(3)]
    np.testing.assert_array_equal(resize(image, 30, 11, to_8_bits=False), np.stack(expected, -1))
    np.testing.assert_array_equal(resize(image[..., 0], 30, 11, to_8_bits=False), expected[0])


@pytest.mark.parametrize(
    "images, message",
    [
        ((255 * IMAGES).astype(np.uint8), r"photos must be float32 in \[0, 1\]; found uint8 .*: divide bytes by 255"),
        (IMAGES[0], r"photos must have shape \(n, height, width, 3\); found \(17, 23, 3\): add a batch axis"),
        (IMAGES[:, :5], "photos must be 8 pixels or more; found 5 x 23: enlarge them"),
        (2 * IMAGES - 1, r"photos must be in \[0, 1\]; found -0.9.* already normalized"),
        (IMAGES * np.nan, r"photos must be in \[0, 1\]; found nan .. nan"),
    ],
)
def test_unsuitable_images_are_refused_by_name(images, message):
    with pytest.raises(ValueError, match=message):
        check_images(images, 3, 8, "photos")


def test_arrays_of_another_shape_are_refused():
    assert check_array(IMAGES[0].tolist(), ((17, 23, 3),), "start").dtype == np.float32
    with pytest.raises(ValueError, match=r"start must have shape \(17, 23\) or \(1, 17, 23\); found \(17, 23, 3\)"):
        check_array(IMAGES[0], ((17, 23), (1, 17, 23)), "start")
