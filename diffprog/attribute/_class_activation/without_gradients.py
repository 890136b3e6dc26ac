"""Weights of channels from scores: with the channel alone, or without it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.factory import factory
from diffprog.attribute._core.question import Question
from diffprog.attribute._core.sweep import scores_at
from diffprog.images._filters import resize_linear


def score_weights(question: Question, values: jax.Array, start: list[jax.Array], progress: str | None) -> np.ndarray:
    """Weigh each channel by the score of what it shows of the input: softmax over channels (Score-CAM).

    A channel, brought to [0, 1] and to the size of the input, is a mask: where it is 0, the input is the baseline. One
    that is the same everywhere shows nothing, and has weight 0.

    Args:
      question: about the inputs, one array of them.
      values: of the layer, (n, positions, channels).
      start: the baseline.
      progress: a caption.

    Returns:
      Array (n, channels), or (n, k, channels).
    """
    channels = values.shape[-1]
    scores = _scores_first(scores_at(question, channels, _masked, (question.points, start, values), None, progress))
    rows = np.asarray(values, np.float64).reshape(len(values), -1, channels)
    is_flat = (rows.max(axis=1) == rows.min(axis=1)).reshape(len(values), *(1,) * (scores.ndim - 2), channels)
    scores = np.where(is_flat, -np.inf, scores)
    largest = scores.max(axis=-1, keepdims=True)
    powers = np.exp(scores - np.where(np.isfinite(largest), largest, 0))
    total = powers.sum(axis=-1, keepdims=True)
    return np.divide(powers, total, out=np.zeros_like(powers), where=total > 0)


def _masked(example, shared, channel):
    points, start, values = example
    one = values[..., channel]
    low, high = one.min(), one.max()
    mask = (one - low) / jnp.where(high > low, high - low, 1)
    (x,), (b,) = points, start
    size = x.shape[: mask.ndim]
    mask = resize_linear(mask, size).reshape(*size, *(1,) * (x.ndim - mask.ndim))
    return [b + mask.astype(x.dtype) * (x - b)], None


def ablation_weights(question: Question, position: int, axis: int, whole: np.ndarray, progress: str | None) -> Any:
    """Weigh each channel by the part of the score that is lost without it (Ablation-CAM).

    Args:
      question: about the values of layers.
      position: which of them.
      axis: of its channels, in one example.
      whole: the scores, (n,) or (n, k).
      progress: a caption.

    Returns:
      Array (n, channels), or (n, k, channels): (score - score without the channel) / |score|.
    """
    channels = question.points[position].shape[axis + 1]
    make = _without_channel(position, axis)
    scores = _scores_first(scores_at(question, channels, make, question.points, None, progress))
    size = np.abs(np.asarray(whole, np.float64))[..., None]
    lost = np.asarray(whole, np.float64)[..., None] - scores
    return np.divide(lost, size, out=np.zeros_like(lost), where=size > 0)


@factory
def _without_channel(position, axis):
    def make(points, shared, channel):
        value = points[position]
        shape = [1] * value.ndim
        shape[axis] = value.shape[axis]
        kept = jnp.arange(value.shape[axis], dtype=jnp.int32).reshape(shape) != channel
        changed = jnp.where(kept, value, jnp.zeros((), value.dtype))
        return [changed if index == position else point for index, point in enumerate(points)], None

    return make


def _scores_first(scores):
    """Bring channels last: (n, channels, k) -> (n, k, channels)."""
    return np.moveaxis(np.asarray(scores, np.float64), 1, -1)


def weighted(values: jax.Array, weights: np.ndarray) -> jax.Array:
    """Add up the channels of each example, (n, positions, channels), by weights (n, channels) or (n, k, channels)."""
    rows = np.asarray(values, np.float64)
    found = [np.tensordot(weight, row, axes=(-1, -1)) for weight, row in zip(weights, rows, strict=True)]
    return jnp.asarray(np.stack(found), jnp.promote_types(values.dtype, jnp.float32))
