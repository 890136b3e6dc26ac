import io

import numpy as np
import pytest
from PIL import Image

from diffprog.attack._distortions import DISTORTIONS, cropped, jpeg, resized, survives_distortions

RNG = np.random.default_rng(0)
SMOOTH = np.stack([*np.meshgrid(np.linspace(0, 1, 24), np.linspace(0, 1, 16)), np.full((16, 24), 0.5)], axis=-1)
IMAGE = np.rint(SMOOTH * 255).astype(np.float32) / 255


def test_distortions_are_what_they_are_called():
    file = io.BytesIO()
    Image.fromarray(np.rint(IMAGE * 255).astype(np.uint8)).save(file, "JPEG", quality=75)
    np.testing.assert_array_equal(jpeg(75)(IMAGE), np.asarray(Image.open(file), np.float32) / 255)
    np.testing.assert_allclose(resized(0.5)(IMAGE), IMAGE, atol=0.06)  # a ramp stays a ramp
    middle = cropped(0.5)(IMAGE)
    # The middle half of a ramp from 0 to 1 goes from about 1/4 to about 3/4.
    np.testing.assert_allclose([middle[8, 0, 0], middle[8, -1, 0]], [0.25, 0.75], atol=0.03)
    for distort in DISTORTIONS.values():
        assert distort(IMAGE).shape == IMAGE.shape and distort(IMAGE[..., :1]).shape == (16, 24, 1)


def test_a_fine_pattern_survives_png_and_nothing_else():
    """The model looks for a chequerboard of one level, which PNG keeps and everything else smooths away."""
    board = np.indices((16, 24)).sum(axis=0)[..., None] % 2 * 2.0 - 1
    images = np.clip(0.5 + board * np.array([2 / 255, 0.2 / 255])[:, None, None, None] + np.zeros(3), 0, 1)

    def model(batch):
        score = (np.asarray(batch) * board).mean(axis=(1, 2, 3)) * 255
        return np.stack([score, np.ones_like(score)], axis=-1)

    found = survives_distortions(model, images.astype(np.float32), [1, 1])
    np.testing.assert_array_equal(found["PNG"], [True, False])  # a fifth of a level is rounded away
    assert not any(found[name].any() for name in found if name != "PNG" and "95" not in name)
    targeted = survives_distortions(model, images.astype(np.float32), [0, 0], targeted=True)
    np.testing.assert_array_equal(targeted["PNG"], [True, False])


def test_arrays_that_are_no_pictures_are_refused():
    with pytest.raises(ValueError, match=r"found \(2, 5\): other arrays cannot be saved"):
        survives_distortions(lambda x: x, np.zeros((2, 5), np.float32), [0, 0])
