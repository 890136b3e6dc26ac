import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from diffprog.optimize import value_and_grad
from diffprog.visualize.transforms import Affine, chain, jitter, lucid, pad, rotate, scale, still
from diffprog.visualize.transforms._geometric import FILL

IMAGE = np.random.default_rng(0).uniform(size=(20, 24, 3)).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), 30)
WIDE = chain(pad(10), jitter(20), scale(0.75, 1.25), rotate(15))


def drawn(transform, key, image):
    return np.asarray(jax.jit(lambda key, image: transform(key, image))(key, image))


def test_no_motion_copies_and_padding_adds_gray():
    np.testing.assert_allclose(drawn(still, KEYS[0], IMAGE), IMAGE, atol=1e-6)
    expected = np.pad(IMAGE, ((3, 3), (3, 3), (0, 0)), constant_values=FILL)
    np.testing.assert_allclose(drawn(pad(3), KEYS[0], IMAGE), expected, atol=1e-6)


@pytest.mark.parametrize("pixels", [4, 5])
def test_jitter_crops_at_every_whole_place(pixels):
    height, width = 20 - pixels, 24 - pixels
    crops = {
        (top, left): IMAGE[top : top + height, left : left + width]
        for top in range(pixels + 1)
        for left in range(pixels + 1)
    }
    found = set()
    keys = jax.random.split(jax.random.key(0), 60)
    for moved in np.asarray(jax.jit(jax.vmap(lambda key: jitter(pixels)(key, IMAGE)))(keys)):
        matches = [place for place, crop in crops.items() if np.allclose(moved, crop, atol=1e-5)]
        assert len(matches) == 1
        found |= set(matches)
    assert len(found) > 0.7 * len(crops)


@pytest.mark.parametrize("transform", [rotate(20), scale(0.7, 1.4), lucid, WIDE, chain(rotate(10), jitter(3), pad(4))])
def test_one_sampling_agrees_with_scipy(transform):
    image = np.random.default_rng(1).uniform(size=(40, 44, 3)).astype(np.float32)
    for key in KEYS[:3]:
        matrix = np.asarray(transform.draw(key), np.float64)
        shape = (40 + transform.growth, 44 + transform.growth)
        center_in, center_out = (np.array(image.shape[:2]) - 1) / 2, (np.array(shape) - 1) / 2
        offset = center_in + matrix[:2, 2] - matrix[:2, :2] @ center_out
        padded = np.pad(image.astype(np.float64), ((30, 30), (30, 30), (0, 0)), constant_values=FILL)
        plane = lambda c: ndimage.affine_transform(padded[..., c], matrix[:2, :2], offset + 30, shape, order=1)
        np.testing.assert_allclose(drawn(transform, key, image), np.stack([plane(c) for c in range(3)], -1), atol=1e-4)


def test_draws_fill_their_ranges():
    keys = jax.random.split(jax.random.key(1), 500)
    turns = jax.vmap(rotate(30).draw)(keys)
    angles = np.rad2deg(np.arctan2(turns[:, 0, 1], turns[:, 0, 0]))
    factors = 1 / np.asarray(jax.vmap(scale(0.8, 1.5).draw)(keys))[:, 0, 0]
    for drawn, low, high in ((angles, -30, 30), (factors, 0.8, 1.5)):
        span = high - low
        assert low <= drawn.min() < low + 0.02 * span
        assert high - 0.02 * span < drawn.max() <= high
        assert abs(np.mean(drawn) - (low + high) / 2) < 0.05 * span


def test_a_chain_multiplies_maps_of_independent_draws():
    numbers = jnp.array([0.2, 0.9])
    first, second = rotate(10).matrix(numbers[:1]), scale(0.5, 2).matrix(numbers[1:])
    both = chain(rotate(10), pad(2), scale(0.5, 2))
    np.testing.assert_allclose(both.matrix(numbers), first @ second, atol=1e-6)
    assert (both.growth, both.num_draws) == (4, 2)
    assert chain(pad(5), jitter(3)).growth == 7
    gentle = chain(pad(6), jitter(8), scale(0.95, 1.05), rotate(5), jitter(4))
    assert (lucid.growth, gentle.growth, WIDE.growth) == (12, 0, 0)


def test_two_steps_in_one_sampling():
    """Padding, then a known shift: the border's gray shows where the shift reaches over the edge."""
    shift = Affine(0, 0, lambda _: jnp.array([[1.0, 0, -2], [0, 1, 0], [0, 0, 1]]), 1)
    moved = drawn(chain(pad(1), shift), KEYS[0], IMAGE)
    np.testing.assert_allclose(moved[:3], FILL, atol=1e-6)
    np.testing.assert_allclose(moved[3:, 1:-1], IMAGE[: moved.shape[0] - 3], atol=1e-5)


@pytest.mark.parametrize("motion", [WIDE, chain(scale(0.4, 2.5), rotate(180)), jitter(3)])
def test_the_gradient_of_a_sampling_is_its_transpose(motion):
    """<w, S x> = <S^T w, x>, although S^T is a gather of its own: whatever the map, at the edges too."""
    weights = np.random.default_rng(1).normal(size=(*motion.size(20, 24), 3)).astype(np.float32)
    seen = lambda image, key: jnp.sum(weights * (motion(key, image) - FILL))
    back = jax.jit(value_and_grad("diffprog")(seen))
    for key in KEYS[:8]:
        value, gradient = back(jnp.asarray(IMAGE), key)
        np.testing.assert_allclose(value, np.sum(gradient * (IMAGE - FILL)), rtol=1e-3, atol=2e-3)
        np.testing.assert_allclose(np.sum(gradient * IMAGE**2), back(IMAGE**2 + FILL, key)[0], rtol=1e-3, atol=2e-3)
