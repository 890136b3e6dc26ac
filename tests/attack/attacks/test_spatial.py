import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from diffprog.attack import spatial

pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEY = jax.random.key(8)
RNG = np.random.default_rng(3)
IMAGES = RNG.uniform(size=(3, 9, 12, 2)).astype(np.float32)
ZEROS = np.zeros(3, int)


def moved(image, degrees, down, right, mode):
    """The same by SciPy, in float64: first turned about the center, then shifted."""
    angle = np.deg2rad(degrees)
    inverse = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    center = (np.array(image.shape[:2]) - 1) / 2
    offset = center - inverse @ (center + np.array([down, right]))
    planes = [
        ndimage.affine_transform(image[..., channel].astype(np.float64), inverse, offset, order=1, mode=mode)
        for channel in range(image.shape[-1])
    ]
    return np.stack(planes, axis=-1)


def nearness(wanted):
    """Class 1 where an image is nearer than 0.05 to one of those wanted; the loss tells how near."""
    wanted = jnp.float32(np.stack(wanted))

    def model(x):
        far = jnp.abs(x[:, None] - wanted[None]).mean(axis=(2, 3, 4)).min(axis=1)
        return jnp.stack([far, jnp.full(len(x), 1e-3)], axis=-1) + 1

    return model


@pytest.mark.parametrize(("padding", "mode"), [("zero", "grid-constant"), ("edge", "nearest")])
def test_the_grid_finds_the_motion_that_is_wanted(padding, mode):
    ways = [(-20, 2, -1), (10, 0, 1), (0, -2, 2)]
    wanted = [moved(image, *way, mode) for image, way in zip(IMAGES, ways, strict=True)]
    result = spatial(
        nearness(wanted),
        IMAGES,
        ZEROS,
        max_rotation=20,
        max_translation=2,
        num_rotations=5,
        num_translations=5,
        padding=padding,
    )
    assert result.success.all()
    np.testing.assert_allclose(result.images, wanted, atol=1e-4)
    np.testing.assert_array_equal(result.queries, 125)
    order = [((d + 20) // 10 * 5 + r + 2) * 5 + c + 2 for d, r, c in ways]
    np.testing.assert_array_equal(result.first_success, order)
    assert np.isinf(result.epsilon).all()
    coarse = spatial(
        nearness(wanted),
        IMAGES,
        ZEROS,
        max_rotation=15,
        max_translation=2,
        num_rotations=3,
        num_translations=1,
        padding=padding,
    )
    assert not coarse.success.any() and np.all(coarse.queries == 3)


def test_random_motions_stay_within_their_limits_and_the_best_is_kept():
    """An image that is its own row number tells how far it was moved."""
    rows = np.broadcast_to(np.linspace(0.2, 0.8, 13)[:, None, None], (13, 13, 1)).astype(np.float32)
    images = np.stack([rows] * 6)
    up = lambda x: jnp.stack([jnp.full(len(x), 5.0), 8 * x[:, 6, 6, 0]], axis=-1)
    few, many = (
        spatial(up, images, np.zeros(6, int), key=KEY, max_rotation=0, max_translation=2, num_samples=draws)
        for draws in (2, 12)
    )
    shifts = (np.array([few.images[:, 6, 6, 0], many.images[:, 6, 6, 0]]) - 0.5) / 0.05
    assert np.abs(shifts).max() <= 2 and len(np.unique(shifts[0])) == 6
    assert np.all(shifts[1] >= shifts[0]) and shifts[1].min() > 0.5
    np.testing.assert_array_equal(many.success, 8 * many.images[:, 6, 6, 0] > 5)
    np.testing.assert_array_equal(many.queries, 12)
    mask = np.arange(13) != 3
    masked = spatial(up, images, np.zeros(6, int), key=KEY, num_samples=2, mask=mask[None, :, None])
    np.testing.assert_array_equal(masked.images[:, :, 3], images[:, :, 3])


def test_bad_arguments_get_one_sentence():
    for options, sentence in (
        ({"padding": "gray"}, "padding must be one of 'zero', 'edge'; found 'gray'"),
        (
            {"max_rotation": -3},
            "max_rotation and max_translation must be numbers .* found -3 and 3",
        ),
        ({"num_samples": 3, "key": "a"}, "key must be a JAX random key; found a"),
        ({"num_samples": 3}, "key must be given with num_samples"),
    ):
        with pytest.raises(ValueError, match=sentence):
            spatial(nearness(IMAGES), IMAGES, ZEROS, **options)
    with pytest.raises(ValueError, match=r"images must have shape \(n, height, width, channels\).*found \(3, 216\)"):
        spatial(nearness(IMAGES), IMAGES.reshape(3, -1), ZEROS)
