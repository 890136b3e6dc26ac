"""ROAD, remove and debias: what is gone is filled in from its neighbors, so that its shape tells nothing."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from diffprog._util import draws
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.players import Features
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._core.sweep import scores_at
from diffprog.attribute.measures._credit import ask, check_many_scores, per_element, ranks
from diffprog.attribute.measures._curves import POSITIONS
from diffprog.attribute.measures._measured import Measured, measured
from diffprog.attribute.measures._probability import probabilities

SHARES = (0.2, 0.4, 0.6, 0.8)
ORDERS = ("both", "most", "least")
# Weights of the eight neighbors, by how far they are: beside 1/6, diagonal 1/12.
NEIGHBORS = {(i, j): 1 / 6 if i == 0 or j == 0 else 1 / 12 for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j}


@answers_names(MEANT)
@own_promotion()
def road(
    model: Callable[..., Any],
    inputs: Any,
    attribution: Any,
    score: Any = None,
    *,
    shares: Sequence[float] = SHARES,
    order: str = "both",
    noise: float = 0.01,
    features: Features = POSITIONS,
    is_probability: bool = False,
    key: Any = 0,
    chunk: int | None = None,
    progress: str | None = None,
) -> Measured:
    """Remove pixels in the order of their credit, and fill them in from their neighbors: high is good.

    Each pixel that is gone becomes the weighted mean of its eight neighbors, beside 1/6 and diagonal 1/12, which may be
    gone themselves: a system of linear equations for each picture and share. Noise is added to what is filled in.

    Args:
      model: a function from a batch of images to outputs, or a `diffprog.models.Model`.
      inputs: images (n, height, width, channels).
      attribution: an `Attribution` of them, or its values.
      score: what is explained.
      shares: parts of the features that are removed, increasing, between 0 and 1.
      order: "most" removes the largest credit first, "least" the smallest first; "both" is (least - most) / 2.
      noise: standard deviation of the noise, in units of the images; 0 for none.
      features: what goes together; pixels by default. A feature has all channels of its pixels.
      is_probability: whether the score, a class, is measured as softmax's probability.
      key: decides the noise, the same for all examples, and the order of features of equal credit.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      `Measured`: the mean over the shares, and the curve. Of "both", the score that is left when the smallest credit
      goes first, above that when the largest does, halved; of "most", low is good.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Rong et al., "A consistent and efficient evaluation strategy for attribution methods", 2022.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(map(repr, ORDERS))}; found {order!r}")
    if is_probability:
        model, score = probabilities(model, score)
    asked = ask(model, inputs, attribution, score, features, None, chunk)
    question, players = asked.question, asked.players
    images = _images(question.points)
    counts = _counts(shares, players.count)
    noisy = float(noise) * np.asarray(draws.normal(random_key(key), images.shape[1:]), np.float64)
    curves = {}
    for name in ("most", "least") if order == "both" else (order,):
        (rank,) = per_element(players, ranks(asked.credit if name == "most" else -asked.credit, key))
        filled = np.stack([_filled_in(image, each, counts, noisy) for image, each in zip(images, rank, strict=True)])
        scores = scores_at(
            question, len(counts), _chosen, jnp.asarray(filled, question.points[0].dtype), None, progress
        )
        curves[name] = np.asarray(scores, np.float64)
        check_many_scores(question, curves[name], "the inputs with pixels filled in")
    curve = (curves["least"] - curves["most"]) / 2 if order == "both" else curves[order]
    total = len(counts) * len(curves)
    return measured("road", curve.mean(axis=1), len(images), total, curve=curve, at=counts / players.count)


def _images(points: Any) -> np.ndarray:
    if len(points) != 1 or points[0].ndim != 4:
        shapes = ", ".join(str(point.shape) for point in points)
        raise ValueError(
            f"road fills in images (n, height, width, channels); found {shapes}: use insertion and deletion"
        )
    return np.asarray(points[0], np.float64)


def _counts(shares: Any, count: int) -> np.ndarray:
    found = np.ravel(np.asarray(shares, np.float64))
    counts = np.round(found * count).astype(int)
    if not len(found) or (np.diff(found) <= 0).any() or counts.min() < 1 or counts.max() >= count:
        raise ValueError(
            f"shares must be increasing, each of at least one and not all {count} features; found {shares!r:.80}"
        )
    return counts


def _filled_in(image: np.ndarray, rank: np.ndarray, counts: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Fill in the pixels of the first ranks of one image: (shares, height, width, channels)."""
    # All channels of a pixel have one rank: features are of positions, or their channels go by the first.
    ranks_of_pixels = rank.min(axis=-1)
    found = []
    for count in counts:
        gone = ranks_of_pixels < count
        found.append(np.where(gone[..., None], impute(image, gone) + noise, image))
    return np.stack(found)


def impute(image: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Make every pixel that is gone the weighted mean of its neighbors: a discrete harmonic function.

    Args:
      image: float64 (height, width, channels).
      gone: bool (height, width), not all.

    Returns:
      The image with these pixels filled in.
    """
    height, width = gone.shape
    number = np.full(gone.shape, -1)
    number[gone] = np.arange(gone.sum())
    rows, columns = np.nonzero(gone)
    unknown = len(rows)
    sums, known = np.zeros(unknown), np.zeros((unknown, image.shape[-1]))
    entries = []
    for (down, right), weight in NEIGHBORS.items():
        r, c = rows + down, columns + right
        inside = (0 <= r) & (r < height) & (0 <= c) & (c < width)
        mine, r, c = np.flatnonzero(inside), r[inside], c[inside]
        sums[mine] += weight  # beyond the edge there is nothing: the others weigh more
        other = number[r, c]
        is_known = other < 0
        known[mine[is_known]] += weight * image[r[is_known], c[is_known]]
        entries.append((mine[~is_known], other[~is_known], np.full(int((~is_known).sum()), -weight)))
    mine, other, weights = (np.concatenate(part) for part in zip(*entries, strict=True))
    diagonal = np.arange(unknown)
    places = (np.concatenate([mine, diagonal]), np.concatenate([other, diagonal]))
    matrix = sparse.csc_matrix((np.concatenate([weights, sums]), places), shape=(unknown, unknown))
    found = image.copy()
    found[gone] = splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(known)
    return found


def _chosen(example: jax.Array, shared: Any, sample: jax.Array) -> tuple[Any, None]:
    return [example[sample]], None
