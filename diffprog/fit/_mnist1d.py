"""MNIST-1D: digits of one dimension, made from a seed, small and still hard for a linear model."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from diffprog._util.numbers import check_count
from diffprog.fit._digits import Examples

TEMPLATES = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)
MIN_PADDING, MAX_PADDING = 36, 60  # zeros behind a template
LONG, SHORT = TEMPLATES.shape[1] + MAX_PADDING, 40  # numbers of an example before and after the last interpolation
SCALE, SHEAR, MAX_SHIFT = 0.4, 0.75, 48
SMOOTH_NOISE, SMOOTHNESS, WHITE_NOISE = 0.25, 2, 0.02


def load_mnist1d(num_train: int = 4000, num_test: int = 1000, *, seed: int = 42) -> tuple[Examples, Examples]:
    """Make one-dimensional digits to train and to test on.

    A digit's template is padded, stretched, scaled and shifted, correlated noise is put around it, white noise and a
    slope are added, and the result is sampled at 40 places. The draws are our own: the set is as the authors', not
    theirs.

    Args:
      num_train: training examples.
      num_test: test examples.
      seed: of all that is drawn.

    Returns:
      Training and test examples: 40 numbers of mean 0 and standard deviation 1 over the whole set, and classes 0 to 9,
      each a tenth of the whole set as far as that can be.

    Raises:
      ValueError: a number that is not positive.

    References:
      S. Greydanus & D. Kobak, "Scaling down deep learning with MNIST-1D", ICML 2024.
    """
    num_train, num_test = check_count(num_train, "num_train"), check_count(num_test, "num_test")
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(num_train + num_test) % len(TEMPLATES)).astype(np.int32)
    normal = (TEMPLATES - TEMPLATES.mean(1, keepdims=True)) / TEMPLATES.std(1, keepdims=True)
    templates = (normal - normal[:, :1]) / 6
    inputs = np.stack([_example(templates[label], rng) for label in labels])
    inputs = ((inputs - inputs.mean()) / inputs.std()).astype(np.float32)
    train, test = slice(num_train), slice(num_train, None)
    return Examples(inputs[train], labels[train]), Examples(inputs[test], labels[test])


def _example(template: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw an example of a digit, (40,)."""
    padding = int(rng.integers(MIN_PADDING, MAX_PADDING + 1))
    signal = _sampled(np.pad(template + 1e-8, (0, padding)), LONG)  # the small number tells the digit from the padding
    signal = np.roll(signal * (1 + SCALE * (rng.random() - 0.5)), rng.integers(MAX_SHIFT))
    around = gaussian_filter1d(SMOOTH_NOISE * rng.standard_normal(LONG), SMOOTHNESS)
    signal = np.where(signal != 0, signal, around) + WHITE_NOISE * rng.standard_normal(LONG)
    return _sampled(signal - SHEAR * (rng.random() - 0.5) * np.linspace(-0.5, 0.5, LONG), SHORT)


def _sampled(signal: np.ndarray, size: int) -> np.ndarray:
    """Interpolate linearly at `size` places from the first number to the last."""
    places = np.linspace(0, len(signal) - 1, size)
    return np.interp(places, np.arange(len(signal)), signal)
