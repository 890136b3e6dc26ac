"""Orders in which features join: draws in pairs, what has joined at each place, and means over them."""

from typing import Any

import jax
import numpy as np

from diffprog._util import draws
from diffprog._util.numbers import check_count
from diffprog._util.random_keys import random_key


def check_samples(samples: Any, key: Any, least: int = 4) -> tuple[int, jax.Array]:
    """Require a number of orders, made even, and a key.

    Raises:
      ValueError: one is missing.
    """
    if key is None:
        raise ValueError("samples are random draws and need key=, as jax.random.key(0), or a seed")
    return -(-check_count(samples, "samples", least) // 2) * 2, random_key(key)


def ranked(key: jax.Array, shape: tuple[int, ...]) -> np.ndarray:
    """Draw random orders of the last axis."""
    return np.argsort(np.asarray(draws.uniform(key, shape)), axis=-1, kind="stable")


def in_pairs(drawn: np.ndarray) -> np.ndarray:
    """Put behind each order its reverse, so that what pulls one up pulls the other down."""
    return np.stack([drawn, drawn[:, ::-1]], axis=1).reshape(2 * len(drawn), -1)


def orders(key: jax.Array, samples: int, count: int) -> np.ndarray:
    """Draw orders of features, each followed by its reverse: (samples, M), numbers of features."""
    return in_pairs(ranked(key, (samples // 2, count)))


def prefixes(drawn: np.ndarray) -> np.ndarray:
    """Say who has joined, for each order and each place but the ends: bool (S, M - 1, M)."""
    places = np.argsort(drawn, axis=1)
    return places[:, None, :] < np.arange(1, drawn.shape[1])[:, None]


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average over samples in pairs.

    Args:
      values: (S, ...), S even; neighbors are a pair, of which only the mean is independent of others.

    Returns:
      Mean and standard error.
    """
    pairs = (values[::2] + values[1::2]) / 2
    return pairs.mean(axis=0), pairs.std(axis=0, ddof=1) / np.sqrt(len(pairs))
