"""The gradient of a large picture, one window at a time: memory as for one window, whatever the picture's size."""

from collections.abc import Callable
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np


def tiled(score: Callable[[jax.Array], jax.Array], image: jax.Array, tile: int, overlap: int) -> jax.Array:
    """Average a score over windows of a picture, with memory as for one window.

    Neighboring windows overlap by at least 2 * `overlap`, and each sends its gradient to its own core only: half of the
    overlap is the neighbor's. Cores tile the picture, so each pixel gets one gradient, from a window in which it is not
    near an edge, but the picture's own. For a score that is a mean over positions, this gradient has the whole
    picture's direction wherever no unit within reach of a core sees the window's edge.

    The windows are run in turn, and run again in the backward pass, so nothing of them is kept.

    Args:
      score: Scores a window (h, w, c).
      image: Array (height, width, c).
      tile: The longest side of a window.
      overlap: Pixels that a window sees beyond its core.

    Returns:
      The mean score.
    """
    height, width = image.shape[:2]
    if max(height, width) <= tile:
        return score(image)
    size = min(height, tile), min(width, tile)
    grid = [(*row, *column) for row in windows(height, tile, overlap) for column in windows(width, tile, overlap)]

    @jax.checkpoint
    def one(place):
        top, upper, lower, left, first, last = place
        window = jax.lax.dynamic_slice(image, (top, left, np.int32(0)), (*size, image.shape[2]))
        rows, columns = top + jnp.arange(size[0])[:, None, None], left + jnp.arange(size[1])[None, :, None]
        core = (rows >= upper) & (rows < lower) & (columns >= first) & (columns < last)
        return score(jnp.where(core, window, jax.lax.stop_gradient(window)))

    return jnp.mean(jax.lax.map(one, np.array(grid, np.int32)))


def windows(length: int, tile: int, overlap: int) -> list[tuple[int, int, int]]:
    """Place windows along an axis: for each (its start, where its core begins, where its core ends)."""
    if length <= tile:
        return [(0, 0, length)]
    starts = [*range(0, length - tile, tile - 2 * overlap), length - tile]
    borders = [0, *((before + tile + after) // 2 for before, after in pairwise(starts)), length]
    return [(start, *core) for start, core in zip(starts, pairwise(borders), strict=True)]
