"""Measures of a picture: of its pixels alone, and of what networks make of it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog import images as files
from diffprog._util.batches import in_batches
from diffprog._util.factory import factory
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog.images._files import with_channels
from diffprog.models import Model
from diffprog.visualize._rendering.fitting import activations, picture_shape
from diffprog.visualize.evaluation._scorer import BATCH, scorer
from diffprog.visualize.objectives._base import Objective
from diffprog.visualize.transforms import Transform

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # the weights of ITU-R BT.709, on the values as they are stored
FRESH = 0x5C02E5  # folded into the rendering's key: draws that no step of a rendering has seen
MARGIN = 0.05  # by which cosines among top images must exceed others to set a scale

# ---------------------------------------------------------------- of pixels


def spectral_slope(image: np.ndarray) -> float:
    """Fit the exponent a of the law amplitude ~ frequency ** a to the picture's luminance.

    Natural photographs have slopes around -1 (Field 1987); measure your own with this function to compare. A straight
    line is fitted to the logarithm of the root mean square amplitude in octaves, from 0.5 cycles per pixel down to 4
    cycles per picture (below, the window is felt).

    Args:
      image: Array (height, width, 3), or one channel (height, width).

    Returns:
      The slope; nan for a picture without contrast, or with a side of less than 32 pixels.
    """
    frequency, power = _spectrum(image)
    octaves = int(np.log2(0.5 * min(np.shape(image)[:2]) / 4))
    octave = np.floor(np.log2(0.5 / np.where(frequency > 0, frequency, 1e-9)))
    rings = [(octave == index) for index in range(octaves)]
    energy = np.array([power[ring].mean() for ring in rings])
    if octaves < 2 or not np.all(energy > 0):
        return float("nan")
    middle = [np.log(frequency[ring]).mean() for ring in rings]
    return float(np.polyfit(middle, np.log(energy) / 2, 1)[0])


def high_frequency_share(image: np.ndarray, above: float = 0.25) -> float:
    """Measure the share of the luminance's energy at high frequencies, the mean left aside.

    White noise has a share of 0.80, a photograph of a hundredth or so.

    Args:
      image: Array (height, width, 3), or one channel (height, width).
      above: Frequencies above this count as high, in cycles per pixel.

    Returns:
      The share; nan without contrast.
    """
    frequency, power = _spectrum(image)
    total = power.sum()
    return float(power[frequency > above].sum() / total) if total > 0 else float("nan")


def _spectrum(image):
    """List frequencies in cycles per pixel and the power at each, of the luminance under a Hann window."""
    image = np.asarray(image, np.float64)
    gray = image if image.ndim == 2 else image @ LUMINANCE if image.shape[-1] == 3 else image.mean(axis=-1)
    window = np.outer(*(np.hanning(length + 2)[1:-1] for length in gray.shape))
    gray = gray - np.sum(gray * window) / np.sum(window)  # so that the window does not spread the mean
    frequency = np.hypot(np.fft.fftfreq(gray.shape[0])[:, None], np.fft.fftfreq(gray.shape[1])[None])
    power = np.abs(np.fft.fft2(gray * window)) ** 2
    return frequency, power if np.ptp(gray) > 1e-6 else np.zeros_like(power)  # what a flat picture has is rounding


def color_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Measure the Fréchet distance between the colors of two sets of images, in units of [0, 1].

    Pixels are summed up by their mean m and covariance C. The distance is the root of
    |m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2)), 0 for equal means and covariances.

    Args:
      first: Array (..., channels).
      second: Array (..., channels).

    Returns:
      The distance.

    References:
      Dowson and Landau 1982.
    """
    (m1, c1), (m2, c2) = map(_colors, (first, second))
    root = _root(c1)
    squared = np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2 * _root(root @ c2 @ root))
    return float(np.sqrt(max(squared, 0.0)))


def _colors(images):
    pixels = np.asarray(images, np.float64).reshape(-1, np.shape(images)[-1])
    return pixels.mean(axis=0), np.atleast_2d(np.cov(pixels, rowvar=False, bias=True))


def _root(matrix):
    """Take the square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


# ---------------------------------------------------------------- of what networks make of it


@own_promotion()
def robust_ratio(
    model: Model,
    objective: Objective,
    image: np.ndarray,
    transform: Transform,
    key: jax.Array,
    num_transforms: int = 64,
) -> float:
    """Divide the mean score under fresh random transforms by the score of the picture as it is.

    Near 1, the unit sees the motif wherever it is; near 0, the score depends on individual pixels.

    Args:
      model: The network.
      objective: What the picture was drawn for.
      image: Array (height, width, 3) in [0, 1].
      transform: Any transform.
      key: A JAX random key; the key of the rendering will do, since draws are fresh.
      num_transforms: Number of draws.

    Returns:
      The ratio; nan where the score of the picture as it is isn't positive.
    """
    keys = jax.random.split(jax.random.fold_in(random_key(key), FRESH), num_transforms)
    transformed = _copies(transform)(keys, jnp.asarray(image))
    score = scorer(model, [objective])
    alone, moved = score(np.asarray(image)[None])[0, 0], score(np.asarray(transformed))[0]
    return float(moved.mean() / alone) if alone > 0 else float("nan")


@factory
def _copies(transform):
    """Compile one draw of a picture for each key."""
    return jax.jit(jax.vmap(transform, (0, None)))


class Transfer(NamedTuple):
    """What another network says of a picture of a class.

    Attributes:
      network: The network's name.
      rank: Rank of the class; 1 is best.
      probability: Probability of the class.
    """

    network: str
    rank: float
    probability: float

    @property
    def top1(self) -> bool:
        """Whether the class is the network's first guess."""
        return self.rank == 1

    @property
    def top5(self) -> bool:
        """Whether the class is among the network's first five guesses."""
        return self.rank <= 5


def transfer(networks: Iterable[Model], label: str | int, image: np.ndarray) -> list[Transfer]:
    """Show a picture of a class to other networks, scaled to each network's size.

    Args:
      networks: The networks.
      label: The class by name, synonym or index in each of the networks.
      image: Array (height, width, 3) in [0, 1].

    Returns:
      A `Transfer` for each network.
    """
    result = []
    for network in networks:
        index = network.label_index(label)
        height, width, channels = picture_shape(network)
        shown = files.resize(with_channels(image, channels), height, width)
        logits = np.asarray(network(shown[None]), np.float64)[0]
        rank = 1 + int(np.sum(logits > logits[index]))
        shares = np.exp(logits - logits.max())
        result.append(Transfer(network.name, rank, float(shares[index] / shares.sum())))
    return result


@own_promotion()
def features(model: Model, images: np.ndarray, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Average the values of layers over all positions.

    Args:
      model: The network.
      images: Array (n, height, width, 3) in [0, 1].
      layers: Names of layers.

    Returns:
      {layer: (n, channels)}, in the order of `layers`.
    """
    over_positions = lambda value: np.asarray(value).reshape(len(value), -1, value.shape[-1]).mean(axis=1)
    read = lambda batch: jax.tree.map(over_positions, activations(model, batch, layers))
    values: Mapping[str, np.ndarray] = in_batches(read, np.asarray(images), BATCH)
    return {layer: values[layer] for layer in layers}


class Likeness(NamedTuple):
    """Mean cosines between features of a layer.

    Attributes:
      picture: Between a picture and the unit's top natural images.
      top: Between different ones of these top images.
      other: Between the top images and other natural images.
    """

    picture: float
    top: float
    other: float

    @property
    def normalized(self) -> float:
        """1 where the picture is like a top image, 0 where it is like any natural image, negative below that.

        nan where `top` exceeds `other` by less than `MARGIN`: top images that are no more alike than any set no scale.
        """
        scale = self.top - self.other
        return (self.picture - self.other) / scale if scale >= MARGIN else float("nan")


def path_similarity(picture: np.ndarray, top: np.ndarray, other: np.ndarray) -> Likeness:
    """Compare a picture with a unit's top natural images, in one layer.

    Geirhos et al. 2024, "Don't trust your eyes: on the (un)reliability of feature visualizations", compare pictures and
    natural images layer by layer. Averaging over positions and the normalization are ours.

    Args:
      picture: Features (channels,), see `features`.
      top: Features (k, channels) of the unit's k >= 2 top natural images.
      other: Features (m, channels) of other natural images.

    Returns:
      A `Likeness`.
    """
    across, to_picture = np.mean(_cosines(top, other)), np.mean(_cosines(picture[None], top))
    return Likeness(float(to_picture), mean_similarity(top), float(across))


def along_path(likenesses: Iterable[Likeness]) -> Likeness:
    """Average likenesses over several layers.

    The mean is normalized as a whole: no single layer in which natural images set hardly a scale decides.

    Args:
      likenesses: One for each layer.

    Returns:
      A `Likeness`.
    """
    return Likeness(*(float(np.mean(column)) for column in zip(*likenesses, strict=True)))


def mean_similarity(vectors: np.ndarray) -> float:
    """Average the cosines between different rows.

    Args:
      vectors: Array (n, channels).

    Returns:
      The mean cosine; nan for fewer than two rows.
    """
    n = len(vectors)
    return float((_cosines(vectors, vectors).sum() - n) / (n * (n - 1))) if n > 1 else float("nan")


def seed_stability(pictures: np.ndarray, natural: np.ndarray) -> float:
    """Measure how alike pictures of one unit from several random keys are: near 1, one motif; near 0, unrelated ones.

    Args:
      pictures: Features (n, channels) of the pictures in one layer.
      natural: Features (m, channels) of natural images. Their mean is subtracted first, since to most layers all images
        have much in common.

    Returns:
      The mean cosine between different pictures.
    """
    return mean_similarity(pictures - np.mean(natural, axis=0))


def _cosines(a, b):
    a, b = (np.asarray(rows, np.float64) for rows in (a, b))
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    return a @ b.T / np.maximum(norms, 1e-12)
