"""RISE: the mean score over random masks that leave an element visible."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util import draws
from diffprog._util.numbers import check_count, check_positive
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._core.baseline import Baseline, Data
from diffprog.attribute._core.finish import finish
from diffprog.attribute._core.players import Features, Players
from diffprog.attribute._core.question import is_float
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._core.sweep import sweep, zeros
from diffprog.attribute._gradients.moments import Moments
from diffprog.attribute._perturbation.axes import per_axis
from diffprog.attribute._perturbation.coalitions import (
    Game,
    as_scores,
    background_of,
    credit,
    for_each,
    game,
    payoffs,
    pose_without_gradients,
    warned,
    whole_scores,
)
from diffprog.attribute._perturbation.shapley import MOST_EXACT, all_masks
from diffprog.graph import Selector


@answers_names(MEANT)
@own_promotion()
def rise(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    key: Any = None,
    samples: int | None = None,
    grid: int | tuple[int, ...] = 7,
    keep: float = 0.5,
    features: Features = None,
    baseline: Baseline | Data = None,
    at: Selector | list[Selector] | None = None,
    chunk: int | None = None,
    progress: str | None = None,
) -> Attribution:
    """Average the score over random masks, each weighted by how visible the element is in it.

    Masks are random grids of zeros and ones, enlarged bilinearly and shifted by a random part of a cell. A value is the
    expected score where its element is visible, sum(score * mask) / (samples * keep), so that all values are near the
    mean score of masked inputs, and only their differences tell elements apart. Masks are the same for every example.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      key: a JAX random key, or a seed; needed unless all masks are evaluated.
      samples: masks. By default 4000, or all 2^M of up to 12 `features`, weighted by how likely they are.
      grid: cells along each axis of positions.
      keep: chance of a cell to be visible.
      features: parts that are masked independently in place of cells, without enlarging; see
        `diffprog.attribute.features`.
      baseline: what shows where the mask is 0; a number, an array, a function, or a data set, `baselines.data(rows)`,
        whose rows take turns; zeros by default.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution`, with standard errors unless all masks are evaluated. There is no gap: values do not add up.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Petsiuk et al., "RISE: randomized input sampling for explanation of black-box models", 2018, equation 6.
    """
    if check_positive(keep, "keep") >= 1:
        raise ValueError(f"keep must be a chance between 0 and 1; found {keep!r}")
    if features is not None:
        asked = game("rise", model, inputs, score, features, baseline, at, chunk, progress)
        return _of_features(asked, key, samples, float(keep))
    key, samples = _key(key), check_count(4000 if samples is None else samples, "samples", 2)
    question = pose_without_gradients("rise", model, inputs, score, None, at, chunk)
    background = background_of(question, baseline)
    asked = Game("rise", question, Players([], 0, False), background, progress)
    shapes = [point.shape[1:] for point in question.points]
    cells = tuple(per_axis(grid, shape, "grid") for shape in shapes)
    for each, shape in zip(cells, shapes, strict=True):
        if any(count > length for count, length in zip(each, shape, strict=False)):
            raise ValueError(
                f"grid has at most as many cells as there are elements along an axis, {shape}; found {each}"
            )
    keys = jax.random.split(key, len(shapes))
    parts = zip(keys, cells, shapes, strict=True)
    grids = [_grid(key, samples, each, float(keep), shape) for key, each, shape in parts]
    state = _no_masks(question, cells)
    examples, shared = (question.points, background.own), (background.data, grids, np.float32(keep))
    moments: Moments = sweep(
        question, samples, _masked, examples, shared, _fold, state, gradients=False, progress=progress
    )
    mean, _, error = moments.estimates(question)
    whole = whole_scores(asked)
    like_points = lambda tree: [
        jnp.broadcast_to(leaf, (*leaf.shape[: -len(shape)], *shape)) for leaf, shape in zip(tree, shapes, strict=True)
    ]
    result = finish(
        question,
        "rise",
        like_points(mean),
        as_scores(question, whole[..., 0]),
        error=like_points(error),
        evaluations=samples + 1,
        steps=samples,
        explains_zeros=False,
    )
    return warned(asked, result)


def _key(key):
    if key is None:
        raise ValueError("rise draws masks at random and needs key=, as jax.random.key(0), or a seed")
    return random_key(key)


def _no_masks(question, cells):
    """Start for the mean of masks: arrays with axes of length 1 behind those of positions."""
    short = [
        jax.ShapeDtypeStruct((*point.shape[: 1 + len(each)], *[1] * (point.ndim - 1 - len(each))), question.dtype)
        for each, point in zip(cells, question.points, strict=True)
    ]
    return Moments(jnp.zeros(question.count, jnp.int32), zeros(question, short), zeros(question, short))


class _Grid(NamedTuple):
    """Random grids of one input: a row for each mask.

    Attributes:
      cells: float32 (samples, cells + 1, ...), 0 or 1: one cell more than the input has along each axis.
      starts: int32 (samples, axes): from which part of the first cell the input begins, in elements.
      edges: int32 (axes,): elements along a cell.
    """

    cells: Any
    starts: Any
    edges: Any


def _grid(key, samples, cells, keep, shape):
    """Draw the grids of one input."""
    first, second = jax.random.split(key)
    edges = np.array([-(-length // count) for length, count in zip(shape, cells, strict=False)], np.int32)
    drawn = draws.coin(first, keep, [samples, *(count + 1 for count in cells)]).astype(jnp.float32)
    starts = (draws.uniform(second, (samples, len(cells))) * edges).astype(jnp.int32)
    return _Grid(drawn, jnp.minimum(starts, edges - 1), edges)


def _masked(example, shared, sample):
    point, own = example
    data, grids, keep = shared
    baseline = own if data is None else [leaf[sample % data[0].shape[0]] for leaf in data]
    masks = [
        mask_of(grid.cells[sample], grid.starts[sample], grid.edges, x.shape)
        for grid, x in zip(grids, point, strict=True)
    ]
    # Half-visible integers do not exist: these show where the mask is above a half.
    mix = lambda m, x, b: b + m.astype(x.dtype) * (x - b) if is_float(x) else jnp.where(m > 0.5, x, b)
    return [mix(m, x, b) for m, x, b in zip(masks, point, baseline, strict=True)], [mask / keep for mask in masks]


def mask_of(cells: jax.Array, starts: jax.Array, edges: Any, shape: tuple[int, ...]) -> jax.Array:
    """Enlarge a grid bilinearly, and cut a mask out of it.

    Args:
      cells: (cells + 1, ...), the grid.
      starts: (axes,), where the mask begins, in elements.
      edges: (axes,), elements along a cell.
      shape: of the example.

    Returns:
      Array with the first axes of the example, and axes of length 1 for the others.
    """
    mask = cells
    for axis in range(cells.ndim):
        count = cells.shape[axis]
        # The centers of cells are half an edge from their borders; beyond the first and the last nothing changes.
        start, edge = (jnp.asarray(each[axis], jnp.float32) for each in (starts, edges))
        place = (jnp.arange(shape[axis], dtype=jnp.float32) + 0.5 + start) / edge - 0.5
        place = jnp.clip(place, 0, count - 1)
        weights = jnp.maximum(1 - jnp.abs(place[:, None] - jnp.arange(count, dtype=jnp.float32)[None]), 0)
        mask = jnp.moveaxis(jnp.tensordot(weights, mask, (1, axis), precision="highest"), 0, axis)
    return mask.reshape(*mask.shape, *[1] * (len(shape) - mask.ndim))


def _fold(state, score, _, weights):
    # One score (), or several (k,) whose axis comes first.
    beside = lambda leaf: score.reshape(*score.shape, *[1] * leaf.ndim).astype(leaf.dtype) * leaf
    return state.add([beside(leaf) for leaf in weights])


def _of_features(asked, key, samples, keep):
    """Mask features independently: all masks of few, or random ones."""
    count = asked.players.count
    if samples is None and count <= MOST_EXACT:
        masks = all_masks(count)
        present = masks.sum(axis=1)
        chances, is_exact = keep**present * (1 - keep) ** (count - present), True
    else:
        samples = check_count(4000 if samples is None else samples, "samples", 2)
        masks = np.asarray(draws.coin(_key(key), keep, (samples, count)))
        chances, is_exact = np.full(samples, 1 / samples), False
    found = payoffs(asked, masks)
    terms = lambda scores: scores[:, None] * masks / keep  # (S, M)
    values = for_each(found.coalitions, lambda scores: chances @ terms(scores))
    error = None if is_exact else for_each(found.coalitions, lambda scores: terms(scores).std(axis=0, ddof=1))
    error = None if error is None else error / np.sqrt(len(masks))
    return credit(
        asked,
        values,
        error,
        score=found.whole,
        divided=False,
        is_complete=False,
        evaluations=found.evaluations,
        steps=None if is_exact else samples,
    )
