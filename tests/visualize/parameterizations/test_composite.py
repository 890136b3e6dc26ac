"""Pyramids, pattern networks, phases, and parameterizations made of other parameterizations."""

import jax
import numpy as np
import pytest

from diffprog.optimize import value_and_grad
from diffprog.visualize import fourier, pixels
from diffprog.visualize.parameterizations import (
    COLORS,
    alpha,
    covariance_of,
    cppn,
    maco,
    masked,
    natural,
    pyramid,
    shared,
    spectrum_of,
)
from diffprog.visualize.parameterizations._natural_statistics import magnitudes


def random(seed=0):
    return np.random.default_rng(seed)


KEYS = jax.random.split(jax.random.key(0), 3)


def logits_of(image):
    image = np.asarray(image, np.float64)
    return np.log(image / (1 - image))


def written(image, deviation=0.5):
    """Random parameters of three pictures, and these."""
    shapes = jax.eval_shape(image.start, KEYS)
    generator = random()
    parameters = jax.tree.map(lambda leaf: generator.normal(0, deviation, leaf.shape).astype(np.float32), shapes)
    return parameters, jax.jit(image.decode)(parameters)


def test_a_pyramid_is_the_sum_of_its_enlarged_levels():
    image = pyramid(8, 12, colors=False, channels=1, levels=3)
    levels = [np.zeros((1, 1, 8, 12)), np.zeros((1, 1, 4, 6)), np.zeros((1, 1, 2, 3))]
    levels[0][0, 0, 3, 4], levels[2][0, 0, 1, 1] = 0.5, 1
    found = logits_of(jax.jit(image.decode)([level.astype(np.float32) for level in levels]))[0, ..., 0]

    def doubled(values):  # linear interpolation between the centers of pixels, which lie a quarter off
        padded = np.pad(values, 1, mode="edge")
        near, before, after = padded[1:-1], padded[:-2], padded[2:]
        return np.stack([0.75 * near + 0.25 * before, 0.75 * near + 0.25 * after], 1).ravel()

    rows, columns = doubled(doubled(np.array([0.0, 1]))), doubled(doubled(np.array([0.0, 1, 0])))
    expected = np.outer(rows, columns) + levels[0][0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "image",
    [
        pyramid(9, 14),
        pyramid(8, channels=2, levels=1),
        alpha(fourier(6, 9)),
        shared(pixels(7, 9)),
        masked(pixels(4, 5), np.ones((4, 5)), np.zeros((4, 5, 3))),
    ],
)
def test_what_is_encoded_decodes_to_itself(image):
    pictures = random().uniform(0.02, 0.98, size=(3, image.height, image.width, image.channels)).astype(np.float32)
    decoded, encoded = jax.jit(lambda x: (image.decode(image.encode(x)), image.encode(x)))(pictures)
    np.testing.assert_allclose(decoded, pictures, atol=2e-5)
    assert jax.tree.map(np.shape, encoded) == jax.tree.map(np.shape, jax.eval_shape(image.start, KEYS))


def test_a_pattern_network_is_its_formula():
    image = cppn(5, 9, layers=2, units=4)
    parameters, pictures = written(image)
    side = np.sqrt(3) * np.linspace(-1, 1, 9)
    values = np.stack(np.meshgrid(side[2:7], side, indexing="ij"), -1)
    one = jax.tree.map(lambda leaf: np.asarray(leaf[1], np.float64), parameters)
    for layer in one["hidden"]:
        values = np.arctan(values @ layer["weights"] + layer["bias"])
        values = np.concatenate([values / 0.67, values**2 / 0.6], -1)
    expected = values @ one["last"]["weights"] + one["last"]["bias"]
    np.testing.assert_allclose(logits_of(pictures)[1], expected, atol=1e-4)


def test_the_network_divides_by_what_the_arctan_of_a_normal_deviate_measures():
    angles = np.arctan(random().normal(size=10**6))
    assert np.sqrt(np.mean(angles**2)) == pytest.approx(0.67, abs=0.01)
    assert np.sqrt(np.mean(angles**4)) == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize("height, width", [(12, 16), (9, 7)])
def test_only_the_phase_is_free(height, width):
    """Whatever the parameters, every wave of every picture has the magnitude of photographs; and phases turn it."""
    image = maco(height, width)
    parameters, pictures = written(image, deviation=3)
    independent = logits_of(pictures) @ np.linalg.inv(COLORS).T
    found = np.fft.rfft2(independent, axes=(1, 2), norm="ortho").transpose(0, 3, 1, 2)
    expected = magnitudes(natural().spectrum, height, width)
    rows, columns = np.indices(expected.shape[1:])
    alone = (2 * rows % height == 0) & (2 * columns % width == 0)  # real coefficients
    relative = found / expected
    np.testing.assert_allclose(np.abs(relative[..., ~alone]), 1, atol=1e-3)
    np.testing.assert_allclose(relative[..., alone], np.cos(parameters[..., alone]), atol=1e-3)
    middle = (columns > 0) & (2 * columns < width)
    np.testing.assert_allclose(relative[..., middle], np.exp(1j * parameters[..., middle]), atol=1e-3)
    encoded = np.asarray(jax.jit(image.encode)(pictures))
    np.testing.assert_allclose(np.exp(1j * encoded[..., ~alone]), relative[..., ~alone], atol=2e-3)


def test_shared_parts_move_every_picture():
    image = shared(pixels(8, 12), factors=(4, 2))
    parameters, pictures = written(image)
    assert [part.shape for part in parameters["shared"]] == [(1, 3, 2, 3), (1, 3, 4, 6)]
    own = jax.jit(pixels(8, 12).decode)(parameters["own"])
    differences = logits_of(pictures) - logits_of(own)
    np.testing.assert_allclose(differences - differences[:1], 0, atol=1e-5)
    parameters["shared"] = [np.zeros((1, 3, 2, 3), np.float32), np.zeros((1, 3, 4, 6), np.float32)]
    parameters["shared"][0][0, 0] = 0.7  # of the first independent color, everywhere
    moved = logits_of(jax.jit(image.decode)(parameters)) - logits_of(own)
    np.testing.assert_allclose(moved, np.broadcast_to(0.7 * COLORS[:, 0], moved.shape), atol=1e-5)


def test_opacity_is_a_channel_more():
    parameters, pictures = written(alpha(pixels(6, 8)))
    assert pictures.shape == (3, 6, 8, 4)
    np.testing.assert_allclose(pictures[..., :3], jax.jit(pixels(6, 8).decode)(parameters["picture"]), atol=1e-6)
    opacity = fourier(6, 8, channels=1)
    np.testing.assert_allclose(pictures[..., 3:], jax.jit(opacity.decode)(parameters["alpha"]), atol=1e-6)


def test_only_what_is_in_the_mask_moves():
    photograph = random().uniform(size=(6, 8, 3)).astype(np.float32)
    mask = np.zeros((6, 8), np.float32)
    mask[:2], mask[2:4] = 1, 0.25
    image = masked(pixels(6, 8), mask, photograph)
    parameters, pictures = written(image)
    own = jax.jit(pixels(6, 8).decode)(parameters)
    np.testing.assert_allclose(pictures[:, :2], own[:, :2], atol=1e-6)
    np.testing.assert_allclose(pictures[:, 2:4], 0.25 * own[:, 2:4] + 0.75 * photograph[2:4], atol=1e-6)
    np.testing.assert_array_equal(pictures[:, 4:], np.broadcast_to(photograph[4:], (3, 2, 8, 3)))
    assert image is masked(pixels(6, 8), mask.copy(), photograph.copy())


def test_starts():
    """Each picture its own; of the stated deviation; phases anywhere on the circle; a pattern network in one color."""
    level, own, phase, network = jax.jit(
        lambda keys: [
            pyramid(40, channels=1, levels=1, deviation=0.2).start(keys)[0],
            shared(pixels(4)).start(keys)["own"],
            maco(24).start(keys),
            cppn(4, layers=1, units=4).start(keys)["last"],
        ]
    )(KEYS)
    assert level.std() == pytest.approx(0.2, rel=0.05)
    assert own.std() == pytest.approx(0.01, rel=0.2)
    assert abs(np.exp(1j * phase).mean()) < 0.05 and np.pi - 0.05 < np.abs(phase).max() <= np.pi
    assert np.all(network["weights"] == 0) and np.all(network["bias"] != 0)
    for leaf in (level, own, phase, network["bias"]):
        assert not np.any(np.isclose(leaf[0], leaf[1], rtol=1e-3, atol=0).all())


@pytest.mark.parametrize("image", [cppn(8, layers=2, units=4), maco(8), alpha(shared(pyramid(8)))])
def test_gradients_agree_with_differences(image):
    parameters, _ = written(image)
    generator = random(1)
    weights = generator.normal(size=(3, 8, 8, image.channels)).astype(np.float32)
    score = jax.jit(value_and_grad("diffprog")(lambda parameters: (weights * image.decode(parameters)).sum()))
    direction = jax.tree.map(lambda leaf: 1e-2 * generator.normal(size=leaf.shape).astype(np.float32), parameters)
    ahead, behind = (score(jax.tree.map(lambda p, d, s=sign: p + s * d, parameters, direction))[0] for sign in (1, -1))
    slopes = jax.tree.map(lambda gradient, d: np.sum(gradient * d), score(parameters)[1], direction)
    np.testing.assert_allclose(sum(jax.tree.leaves(slopes)), (ahead - behind) / 2, rtol=0.03, atol=2e-3)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: pyramid(8, 16, levels=5), "8 x 16 pixels have no pyramid of 5 levels"),
        (lambda: maco(8, spectrum=np.ones((3, 4))), r"a spectrum has shape \(3, 91\); found \(3, 4\)"),
        (lambda: spectrum_of([np.zeros((100, 300, 3))]), r"of 256 pixels or more; found \(100, 300, 3\)"),
        (lambda: covariance_of([]), "images must be a list of arrays .*; found none"),
        (lambda: masked(pixels(4), np.ones((4, 5)), np.ones((4, 4, 3))), r"the mask must have shape \(4, 4\)"),
        (
            lambda: masked(pixels(4), np.ones((4, 4)), 9 * np.ones((4, 4, 3))),
            r"photograph must be in \[0, 1\]; found 9 \.\. 9",
        ),
    ],
)
def test_bad_arguments_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
