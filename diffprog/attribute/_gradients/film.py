"""What happens on the way from a baseline to an input: where the score is made, and where it no longer changes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.baseline import Baseline
from diffprog.attribute._core.finish import check_scores
from diffprog.attribute._core.question import pose
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._core.sweep import sweep, zero_scores, zeros
from diffprog.attribute._gradients.gradient import At
from diffprog.attribute._gradients.integrated import point_on, start_of
from diffprog.attribute.paths import Path, straight


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class PathFilm:
    """What happens at points of a path. A pytree; of several scores, its arrays have an axis of scores in front.

    The mean of `maps` over a fine film is what integrated gradients give. Where the score is flat and the gradient is
    small, the score is saturated, and the gradient at the input says little.

    Attributes:
      parts: (points,), of the way, from 0 at the start to 1 at the input.
      scores: (n, points).
      slopes: (n, points), norms of the gradient, over all that credit goes to.
      inputs: like the inputs, (n, points, ...): the points. It is never doubled for several scores.
      maps: like the inputs, (n, points, ...): the gradient times the path's velocity, so credit per part of the way.
    """

    parts: jax.Array
    scores: jax.Array
    slopes: jax.Array
    inputs: Any
    maps: Any


@answers_names(MEANT)
@own_promotion()
def path_film(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    baseline: Baseline = None,
    points: int = 33,
    path: Path = straight,
    at: At = None,
    chunk: int | None = None,
    engine: str = "diffprog",
    progress: str | None = None,
) -> PathFilm:
    """Look at the score, its gradient and its map at equal parts of the way from the baseline to the input.

    `attribute.pictures.film` draws it.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      baseline: where the way begins; zeros by default.
      points: number of points, the ends among them, 2 or more.
      path: another way than the straight one, see `attribute.paths`.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      engine: gradients by "diffprog" or by "jax".
      progress: a caption, which switches on a progress bar.

    Returns:
      A `PathFilm`.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Sturmfels et al., "Visualizing the impact of feature attribution baselines", 2020.
    """
    points = check_count(points, "points", 2)
    question = pose(model, inputs, score, at=at, chunk=chunk, engine=engine)
    start = start_of(question, path, baseline)
    parts = np.linspace(0, 1, points).astype(question.dtype)
    frames = []
    for part in tqdm(parts, desc=progress, unit="point", disable=progress is None, leave=False):
        state = (zero_scores(question), zero_scores(question), question.points, zeros(question))
        frames.append(sweep(question, 1, point_on(path), (start, question.points), part, _keep, state))
    scores, slopes, seen, maps = jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *frames)
    check_scores(question, scores, "the path")
    if question.num_scores is not None:  # (n, points, k, ...) -> (k, n, points, ...)
        scores, slopes, maps = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 2, 0), (scores, slopes, maps))
    return PathFilm(jnp.asarray(parts), scores, slopes, question.present(seen), question.present(maps))


def _keep(state, score, slopes, extra):
    point, velocity = extra
    squares = [jnp.sum((slope * slope).reshape(*score.shape, -1), axis=-1) for slope in slopes]
    found = score, jnp.sqrt(sum(squares)), point, jax.tree.map(jnp.multiply, slopes, velocity)
    return jax.tree.map(lambda old, new: new.astype(old.dtype), state, found)
