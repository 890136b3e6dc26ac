import jax
import numpy as np
import pytest

from diffprog.visualize import fourier, pixels
from diffprog.visualize.parameterisations import COLOURS


def logits_of(image):
    image = np.asarray(image, np.float64)
    return np.log(image / (1 - image))


def test_colours_are_lucids_normalised_constants():
    published = [[0.56283, 0.19483, 0.04329], [0.58448, 0, -0.10824], [0.58448, -0.19483, 0.06494]]
    np.testing.assert_allclose(COLOURS, published, atol=1e-5)


@pytest.mark.parametrize("height, width, decay, cutoff", [(8, 8, 1.0, None), (6, 9, 1.0, None), (8, 12, 1.5, 0.2)])
def test_one_frequency_decodes_to_its_wave(height, width, decay, cutoff):
    """One coefficient of the first decorrelated colour is a cosine of the amplitude that the docstring states."""
    image = fourier(height, width, decay=decay, cutoff=cutoff)
    u, v = 1, 2  # cycles over the height and over the width
    parameters = np.zeros(image.start(jax.random.split(jax.random.key(0), 1)).shape, np.float32)
    parameters[0, 0, 0, u, v] = 1.5
    frequency = np.hypot(u / height, v / width)
    amplitude = 1.5 * frequency**-decay * (np.exp(-((frequency / cutoff) ** 2)) if cutoff else 1)
    rows, columns = np.mgrid[:height, :width]
    wave = 2 * amplitude / np.sqrt(height * width) / 4 * np.cos(2 * np.pi * (u * rows / height + v * columns / width))
    np.testing.assert_allclose(logits_of(image.decode(parameters))[0], wave[..., None] * COLOURS[:, 0], atol=1e-5)


def test_the_constant_term_counts_as_the_lowest_frequency():
    image = fourier(8, 16, decorrelate=False)
    parameters = np.zeros(image.start(jax.random.split(jax.random.key(0), 1)).shape, np.float32)
    parameters[0, 0, 1, 0, 0] = 1.0
    expected = np.broadcast_to([0, 16 / np.sqrt(8 * 16) / 4, 0], (8, 16, 3))
    np.testing.assert_allclose(logits_of(image.decode(parameters))[0], expected, atol=1e-5)


def test_start_is_nearly_grey_with_lucids_contrast():
    """Pixel deviation 0.0028 to 0.0032 after the sigmoid: what Lucid's own start gives at 128 pixels."""
    image = fourier(128)
    contrast = np.asarray(image.decode(image.start(jax.random.split(jax.random.key(0), 4)))).std((1, 2, 3))
    assert 0.0026 < contrast.min() <= contrast.max() < 0.0034


def test_pixels_are_a_sigmoid():
    image = pixels(4, 6)
    parameters = image.start(jax.random.split(jax.random.key(0), 1))
    np.testing.assert_allclose(logits_of(image.decode(parameters)), parameters, atol=1e-5)
    assert parameters.shape == (1, 4, 6, 3)
