import jax
import numpy as np
import pytest

from diffprog.visualize import fourier, pixels
from diffprog.visualize.parameterizations import COLORS, colors_of

RANDOM = np.random.default_rng(0)
MIXING = RANDOM.normal(size=(5, 5)).astype(np.float32)  # of five channels


def logits_of(image):
    image = np.asarray(image, np.float64)
    return np.log(image / (1 - image))


def test_colors_are_lucids_normalized_constants():
    published = [[0.56283, 0.19483, 0.04329], [0.58448, 0, -0.10824], [0.58448, -0.19483, 0.06494]]
    np.testing.assert_allclose(COLORS, published, atol=1e-5)


@pytest.mark.parametrize("height, width, decay, cutoff", [(8, 8, 1.0, None), (6, 9, 1.0, None), (8, 12, 1.5, 0.2)])
def test_one_frequency_decodes_to_its_wave(height, width, decay, cutoff):
    """One coefficient of the first decorrelated color is a cosine of the amplitude that the docstring states."""
    image = fourier(height, width, decay=decay, cutoff=cutoff)
    u, v = 1, 2  # cycles over the height and over the width
    parameters = np.zeros(jax.eval_shape(image.start, jax.random.split(jax.random.key(0), 1)).shape, np.float32)
    parameters[0, 0, 0, u, v] = 1.5
    frequency = np.hypot(u / height, v / width)
    amplitude = 1.5 * frequency**-decay * (np.exp(-((frequency / cutoff) ** 2)) if cutoff else 1)
    rows, columns = np.mgrid[:height, :width]
    wave = 2 * amplitude / np.sqrt(height * width) / 4 * np.cos(2 * np.pi * (u * rows / height + v * columns / width))
    decoded = jax.jit(image.decode)(parameters)[0]
    np.testing.assert_allclose(logits_of(decoded), wave[..., None] * COLORS[:, 0], atol=1e-5)


def test_the_constant_term_counts_as_the_lowest_frequency():
    image = fourier(8, 16, colors=False)
    parameters = np.zeros(jax.eval_shape(image.start, jax.random.split(jax.random.key(0), 1)).shape, np.float32)
    parameters[0, 0, 1, 0, 0] = 1.0
    expected = np.broadcast_to([0, 16 / np.sqrt(8 * 16) / 4, 0], (8, 16, 3))
    np.testing.assert_allclose(logits_of(jax.jit(image.decode)(parameters))[0], expected, atol=1e-5)


def test_start_is_nearly_gray_with_lucids_contrast():
    """Pixel deviation 0.0028 to 0.0032 after the sigmoid: what Lucid's own start gives at 128 pixels."""
    image = fourier(128)
    draw = jax.jit(lambda keys: image.decode(image.start(keys)))
    contrast = np.asarray(draw(jax.random.split(jax.random.key(0), 4))).std((1, 2, 3))
    assert 0.0026 < contrast.min() <= contrast.max() < 0.0034


def test_pixels_are_a_sigmoid():
    image = pixels(4, 6)
    parameters = jax.jit(image.start)(jax.random.split(jax.random.key(0), 1))
    np.testing.assert_allclose(logits_of(jax.jit(image.decode)(parameters)), np.moveaxis(parameters, 1, -1), atol=1e-5)
    assert parameters.shape == (1, 3, 4, 6)


WRITERS = [
    fourier(7, 10),
    fourier(8, colors=False, decay=0.5),
    fourier(6, 5, channels=1),
    fourier(6, 8, channels=5, colors=MIXING),
    pixels(5, 4),
    pixels(5, channels=5, colors=MIXING),
]


@pytest.mark.parametrize("image", WRITERS)
def test_what_is_encoded_decodes_to_itself(image):
    pictures = RANDOM.uniform(size=(2, image.height, image.width, image.channels)).astype(np.float32)
    decoded, encoded = jax.jit(lambda x: (image.decode(image.encode(x)), image.encode(x)))(pictures)
    np.testing.assert_allclose(decoded, np.clip(pictures, 0.01, 0.99), atol=2e-5)
    started = jax.eval_shape(image.start, jax.random.split(jax.random.key(0), 2))
    assert jax.tree.map(np.shape, encoded) == jax.tree.map(np.shape, started)


def test_a_low_pass_encodes_to_the_smooth_part():
    """What it removes altogether has no parameters that could grow without bound."""
    rows, columns = np.mgrid[:32, :32] / 32
    smooth, fine = np.sin(2 * np.pi * rows), np.sin(2 * np.pi * 14 * columns)
    picture = 1 / (1 + np.exp(-(smooth + fine)))[..., None].repeat(3, -1).astype(np.float32)
    image = fourier(32, cutoff=0.1)
    parameters = jax.jit(image.encode)(picture[None])
    expected = np.broadcast_to(smooth[..., None], (32, 32, 3))
    np.testing.assert_allclose(logits_of(jax.jit(image.decode)(parameters))[0], expected, atol=1e-3)
    assert np.abs(parameters).max() < 100


def test_equal_arguments_give_the_same_object():
    assert fourier(16) is fourier(16, None, decay=1.0)
    assert fourier(16, channels=5, colors=MIXING) is fourier(16, channels=5, colors=MIXING.copy())
    assert fourier(16, channels=5, colors=MIXING) is not fourier(16, channels=5, colors=MIXING + 1)
    assert fourier(16, colors=COLORS.tolist()) is fourier(16, colors=COLORS.astype(np.float64).tolist())


def test_colors_of_images_have_their_covariance():
    images = [RANDOM.normal(size=(6, 9, 3)) @ RANDOM.normal(size=(3, 3)) for _ in range(4)]
    covariance = sum(np.cov(image.reshape(-1, 3).T, bias=True) for image in images) / 4
    matrix = colors_of(images)
    assert np.linalg.norm(matrix, axis=0).max() == pytest.approx(1)
    np.testing.assert_allclose(matrix @ matrix.T * np.linalg.eigvalsh(covariance).max(), covariance, rtol=1e-4)
    assert np.all(np.diff(np.linalg.norm(matrix, axis=0)) < 0)  # the strongest first


def test_bad_colors_are_refused():
    with pytest.raises(ValueError, match=r"colors for 3 channels need shape \(3, 3\); found \(5, 5\)"):
        fourier(8, colors=MIXING)
    with pytest.raises(ValueError, match="must be a matrix that can be inverted"):
        pixels(8, colors=np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"images must be a list of arrays .*; found \(4, 3\)"):
        colors_of(np.zeros((5, 4, 3)))
    with pytest.raises(ValueError, match="a single color"):
        colors_of(np.ones((2, 4, 4, 3)))
