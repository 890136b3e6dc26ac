import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from diffprog.visualize.penalties import boundary_complexity, fine_detail, l1, l2, opacity, total_variation
from tests.visualize import small

MODEL = small.model()
IMAGES = np.random.default_rng(4).uniform(size=(2, 30, 26, 3)).astype(np.float32)
WIDE = IMAGES.astype(np.float64)


def score(objective, images=IMAGES):
    return np.asarray(objective.score(MODEL, {"image": jnp.asarray(images)}))


def gaussian(images, deviation):
    along = lambda x, axis: ndimage.gaussian_filter1d(x, deviation, axis, mode="nearest", radius=round(3 * deviation))
    return along(along(images, 1), 2)


def test_each_measures_what_it_says():
    down, across = np.abs(np.diff(WIDE, axis=1)).mean((1, 2, 3)), np.abs(np.diff(WIDE, axis=2)).mean((1, 2, 3))
    np.testing.assert_allclose(score(total_variation()), down + across, rtol=1e-5)
    np.testing.assert_allclose(score(l1(0.25)), np.abs(WIDE - 0.25).mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(score(l2()), np.sqrt(((WIDE - 0.5) ** 2).mean((1, 2, 3))), rtol=1e-5)
    np.testing.assert_allclose(score(fine_detail(1.4)), ((WIDE - gaussian(WIDE, 1.4)) ** 2).mean((1, 2, 3)), rtol=1e-4)
    border = np.ones((30, 26), bool)
    border[5:-5, 5:-5] = False
    each = (WIDE - gaussian(WIDE, 1.5)) ** 2 + 0.3 * (WIDE - 0.4) ** 2
    np.testing.assert_allclose(score(boundary_complexity(5, 0.4, 0.3)), each[:, border].mean((1, 2)), rtol=1e-4)
    four = np.concatenate([IMAGES, IMAGES[..., :1]], axis=-1)
    np.testing.assert_allclose(score(opacity(), four), WIDE[..., 0].mean((1, 2)), rtol=1e-5)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="opacity needs pictures with a fourth channel; found 3 channels"):
        opacity().check(MODEL)
    with pytest.raises(ValueError, match="a border is 1 pixel wide or more; found 0"):
        boundary_complexity(0)
    with pytest.raises(ValueError, match="a deviation above 0 pixels; found 0"):
        fine_detail(0)
