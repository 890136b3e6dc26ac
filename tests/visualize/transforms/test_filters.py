import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from diffprog.optimize import value_and_grad
from diffprog.visualize import fourier
from diffprog.visualize.transforms import blend, blur, chain, color_shift, crop, flip, jitter, noise, pad, resize, scale
from diffprog.visualize.transforms._filters import window

IMAGE = np.random.default_rng(0).uniform(size=(20, 24, 3)).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), 200)


def drawn(transform, image=IMAGE, count=1):
    """That many results: (count, h, w, c)."""
    return np.asarray(jax.jit(jax.vmap(lambda key: transform(key, image)))(KEYS[:count]))


def test_flip_mirrors_half_of_the_draws():
    results = drawn(flip(), count=40)
    mirrored = [np.allclose(each, IMAGE[:, ::-1], atol=1e-5) for each in results]
    assert all(m or np.allclose(each, IMAGE, atol=1e-5) for m, each in zip(mirrored, results, strict=True))
    assert 10 < sum(mirrored) < 30


@pytest.mark.parametrize("deviation", [0.6, 1.5])
def test_blur_agrees_with_scipy(deviation):
    smooth = lambda plane: ndimage.gaussian_filter(plane, deviation, mode="nearest", radius=int(np.ceil(3 * deviation)))
    expected = np.stack([smooth(IMAGE[..., c].astype(np.float64)) for c in range(3)], -1)
    np.testing.assert_allclose(drawn(blur(deviation, deviation))[0], expected, atol=1e-5)


def test_blur_draws_its_deviation():
    """Of a point, whose blurred variance is the deviation's square."""
    point = np.zeros((31, 31, 1), np.float32)
    point[15, 15] = 1
    rows = np.arange(31) - 15
    variance = np.einsum("nhwc,h->n", drawn(blur(1, 3), point, 50), rows**2)
    assert 1 <= np.sqrt(variance).min() < 1.2
    assert 2.7 < np.sqrt(variance).max() <= 3
    assert drawn(blur(0, 0))[0] == pytest.approx(IMAGE, abs=1e-6)


def test_noise_has_its_deviation_and_its_span():
    big = np.full((60, 60, 3), 0.5, np.float32)
    normal, uniform, both = (drawn(noise(*how), big, 2) - 0.5 for how in ((0.1, 0), (0, 0.2), (0.1, 0.2)))
    assert normal.std() == pytest.approx(0.1, rel=0.03)
    assert abs(normal.mean()) < 0.002
    assert np.mean(np.abs(normal) < 0.1) == pytest.approx(0.683, abs=0.015)  # as of a normal deviate
    assert uniform.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.03)
    assert -0.2 <= uniform.min() < -0.199 and 0.199 < uniform.max() <= 0.2
    assert both.std() == pytest.approx(np.hypot(0.1, 0.2 / np.sqrt(3)), rel=0.03)
    assert not np.allclose(*normal, atol=0.01)  # another for another key


def test_colors_are_shifted_for_each_channel():
    """Recovered from the results: a line in logits, whose slope and offset have the stated ranges."""
    image = np.clip(IMAGE, 0.05, 0.95)
    logits = lambda x: np.log(x) - np.log1p(-x)
    line = lambda result, c: np.polyfit(logits(image[..., c]).ravel(), logits(result[..., c]).ravel(), 1)
    lines = np.array([[line(result, c) for c in range(3)] for result in drawn(color_shift(0.5, 0.7), image, 150)])
    spreads, shifts = -np.log(lines[..., 0]), -lines[..., 1] / lines[..., 0]
    for found, bound in ((spreads, 0.7), (shifts, 0.5)):
        assert -bound - 1e-3 < found.min() < -0.97 * bound
        assert 0.97 * bound < found.max() < bound + 1e-3
        assert abs(np.corrcoef(found.T)[0, 1]) < 0.25  # each channel has its own
    extreme = drawn(color_shift(1, 1), np.stack([np.zeros((4, 4)), np.ones((4, 4))], -1).astype(np.float32))
    assert 0 < extreme.min() < extreme.max() < 1


@pytest.mark.parametrize("height, width", [(7, 9), (40, 31)])
def test_resizing_agrees_with_pillow(height, width):
    plane = lambda c: np.asarray(Image.fromarray(IMAGE[..., c]).resize((width, height), Image.Resampling.BILINEAR))
    expected = np.stack([plane(c) for c in range(3)], -1)
    np.testing.assert_allclose(drawn(resize(height, width))[0], expected, atol=1e-3)
    assert resize(height, width).size(20, 24) == (height, width)


@pytest.mark.parametrize("corner, side", [((3.0, 5.0), 8.0), ((2.25, 0.5), 4.5), ((0.0, 4.0), 20.0)])
def test_a_window_agrees_with_pillow(corner, side):
    box = (corner[1], corner[0], corner[1] + side, corner[0] + side)
    plane = lambda c: Image.fromarray(IMAGE[..., c]).resize((10, 10), Image.Resampling.BILINEAR, box=box)
    sides = jnp.array([side, side])
    found = np.asarray(jax.jit(lambda image: window(image, jnp.array(corner), sides, (10, 10)))(IMAGE))
    inner = slice(1, -1) if side < 20 else slice(None)  # at its edge, Pillow does not look outside of the box; we do
    np.testing.assert_allclose(found[inner, inner], np.stack([plane(c) for c in range(3)], -1)[inner, inner], atol=2e-3)


def test_crops_lie_where_they_should():
    """Of a picture that tells its own coordinates: sides and centers, recovered."""
    rows, columns = np.mgrid[:100, :140] + 0.5
    results = drawn(crop(8, 0.1, 0.5), np.stack([rows, columns], -1).astype(np.float32), 200)
    assert results.shape == (200, 8, 8, 2)
    centers = results.mean((1, 2))
    sides = (results[:, -2, 0, 0] - results[:, 1, 0, 0]) * 8 / 5
    np.testing.assert_allclose((results[:, 0, -2, 1] - results[:, 0, 1, 1]) * 8 / 5, sides, rtol=0.05)  # squares
    assert sides.mean() == pytest.approx(30, rel=0.1)
    assert sides.std() == pytest.approx(np.hypot(40 / np.sqrt(12), 5), rel=0.15)
    assert np.all(centers - sides[:, None] / 2 > -0.6) and np.all(centers + sides[:, None] / 2 < [100.6, 140.6])
    np.testing.assert_allclose(centers.mean(0), [50, 70], atol=5)
    assert centers.std(0) == pytest.approx(np.array([15, 21]), rel=0.2)


def test_a_picture_is_blended_by_its_opacity():
    image = np.concatenate([IMAGE, np.zeros((20, 24, 1))], -1).astype(np.float32)
    image[:10, :, 3], image[10:15, :, 3] = 1, 0.5
    backgrounds = fourier(20, 24, deviation=0.5)
    behinds = np.asarray(jax.jit(lambda keys: backgrounds.decode(backgrounds.start(keys)))(KEYS[:2]))
    for behind, result in zip(behinds, drawn(blend(), image, 2), strict=True):
        np.testing.assert_allclose(result[:10], IMAGE[:10], atol=1e-6)
        np.testing.assert_allclose(result[10:15], (IMAGE[10:15] + behind[10:15]) / 2, atol=1e-6)
        np.testing.assert_allclose(result[15:], behind[15:], atol=1e-6)
        assert behind.std() > 0.05


def test_a_chain_of_filters_and_motions():
    """Neighboring motions become one step, whose draws are those of the step's own key."""
    steps = [noise(0.1), pad(2), jitter(3), color_shift(), chain(scale(0.5, 2), resize(9))]
    whole = chain(*steps)
    assert [type(step).__name__ for step in whole.steps] == ["Filter", "Affine", "Filter", "Affine", "Filter"]
    assert whole.size(20, 24) == (9, 9)
    assert chain(*steps[:3]).size(20, 24) == (21, 25)

    def by_hand(key):
        image = IMAGE
        joined = [noise(0.1), chain(pad(2), jitter(3)), color_shift(), scale(0.5, 2), resize(9)]
        for number, step in enumerate(joined):
            image = step(jax.random.fold_in(key, number), image)
        return image

    np.testing.assert_allclose(drawn(whole)[0], jax.jit(by_hand)(KEYS[0]), atol=1e-5)
    assert chain(*steps) is whole


def test_gradients_of_filters_agree_with_differences():
    everything = chain(color_shift(), crop(6), noise(0.1, 0.1), blur(0.5, 0.5), resize(4))
    back = jax.jit(value_and_grad("diffprog")(lambda image: jnp.sum(everything(KEYS[0], image) ** 2)))
    direction = 1e-3 * np.random.default_rng(1).normal(size=IMAGE.shape).astype(np.float32)
    slope = np.sum(back(jnp.asarray(IMAGE))[1] * direction)
    difference = (back(IMAGE + direction)[0] - back(IMAGE - direction)[0]) / 2
    np.testing.assert_allclose(slope, difference, rtol=0.02)
