"""Occlusion and ablation: by how much the score falls when one part of the input is taken away."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.promotion import own_promotion
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._core.baseline import Baseline, Data
from diffprog.attribute._core.finish import finish
from diffprog.attribute._core.players import Features, Players
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._perturbation.axes import num_positions, per_axis
from diffprog.attribute._perturbation.coalitions import (
    Game,
    as_scores,
    background_of,
    background_row,
    check_payoffs,
    credit,
    game,
    payoffs,
    pose_without_gradients,
    score_with,
    warned,
    whole_scores,
)
from diffprog.graph import Selector

WINDOWS_PER_AXIS = 16  # of the default: 14 pixels of 224


@answers_names(MEANT)
@own_promotion()
def occlusion(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    window: int | tuple[int, ...] | None = None,
    stride: int | tuple[int, ...] | None = None,
    features: Features = None,
    baseline: Baseline | Data = None,
    at: Selector | list[Selector] | None = None,
    chunk: int | None = None,
    progress: str | None = None,
) -> Attribution:
    """Slide a window over the positions, put the baseline in it, and see by how much the score falls.

    An element's credit is the mean over the windows that cover it. All windows have their full size: the last of an
    axis ends where the axis ends, so that nothing is covered by less. Of several inputs each has windows of its own.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      window: lengths along the axes of positions, all but the last of an example; all channels are occluded together. A
        tuple is for the first axes, whichever they are: (16, 16) for pictures without channels. By default a sixteenth
        of each axis. It is the same for all inputs: where that does not fit, give features.
      stride: steps of the window along the axes; the window's lengths by default, so that windows do not overlap. Its
        lengths may not be above the window's.
      features: parts to occlude in place of windows, see `feature_ablation`.
      baseline: what is put in the window; a number, an array, a function, or a data set of m rows over which scores are
        averaged, `baselines.data(rows)`; zeros by default.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution`. There is no gap: drops of the score need not add up.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Zeiler & Fergus, "Visualizing and understanding convolutional networks", 2014.
    """
    if features is not None:
        if window is not None or stride is not None:
            raise ValueError("occlusion takes windows or features; found both: leave one out")
        asked = game("occlusion", model, inputs, score, features, baseline, at, chunk, progress)
        return _without_each(asked)
    question = pose_without_gradients("occlusion", model, inputs, score, None, at, chunk)
    background = background_of(question, baseline)
    asked = Game("occlusion", question, Players([], 0, False), background, progress)
    shapes = [point.shape[1:] for point in question.points]
    windows = [_Windows(shape, window, stride) for shape in shapes]
    starts = _table(windows)
    lengths = [np.array(each.lengths, np.int32) for each in windows]
    missing = score_with(asked, len(starts), _occluded, lengths, jnp.asarray(starts))
    check_payoffs(asked, missing, lambda number: f"the window of input {starts[number, 0]} at {starts[number, 1:]}")
    whole = whole_scores(asked)
    drops = whole - missing
    values, first = [], 0
    for each, shape in zip(windows, shapes, strict=True):
        values.append(as_scores(question, _mean_over_windows(each, shape, drops[..., first : first + each.count])))
        first += each.count
    result = finish(
        question,
        "occlusion",
        values,
        as_scores(question, whole[..., 0]),
        evaluations=len(starts) * background.count + 1,
        explains_zeros=False,
    )
    return warned(asked, result)


@answers_names(MEANT)
@own_promotion()
def feature_ablation(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    features: Features = None,
    baseline: Baseline | Data = None,
    at: Selector | list[Selector] | None = None,
    chunk: int | None = None,
    progress: str | None = None,
) -> Attribution:
    """Put one feature after the other to the baseline, and see by how much the score falls.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      features: the parts, see `diffprog.attribute.features`; each element by default.
      baseline: what takes their place; a number, an array, a function, or a data set of m rows over which scores are
        averaged, `baselines.data(rows)`; zeros by default.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution`. Each element has the whole credit of its feature. There is no gap: drops of the score need not
      add up.

    Raises:
      ValueError: something does not fit; the message says what to do.
    """
    return _without_each(game("feature_ablation", model, inputs, score, features, baseline, at, chunk, progress))


def _without_each(asked):
    """Take one feature after the other away."""
    found = payoffs(asked, ~np.eye(asked.players.count, dtype=bool))
    drops = found.whole[..., None] - found.coalitions
    return credit(
        asked,
        drops,
        score=found.whole,
        baseline_score=found.none,
        divided=False,
        is_complete=False,
        evaluations=found.evaluations,
    )


# ---------------------------------------------------------------- windows


class _Windows:
    """Where windows lie in one input: their lengths and starts along the first axes."""

    def __init__(self, shape, window, stride):
        axes = num_positions(shape)
        if window is None:
            window = tuple(-(-length // WINDOWS_PER_AXIS) for length in shape[:axes])
        self.lengths = per_axis(window, shape, "window")
        steps = self.lengths if stride is None else per_axis(stride, shape, "stride")
        if len(steps) != len(self.lengths):
            raise ValueError(f"stride must have a step for each length of the window, {self.lengths}; found {steps}")
        for length, step, size in zip(self.lengths, steps, shape, strict=False):
            if length > size:
                raise ValueError(f"window must fit an example, {shape}; found {self.lengths}")
            if step > length:
                raise ValueError(
                    f"stride must not be above the window, {self.lengths}, or there are gaps; found {steps}"
                )
        along = [
            np.unique(np.append(np.arange(0, size - length, step), size - length))
            for length, step, size in zip(self.lengths, steps, shape, strict=False)
        ]
        self.starts = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, len(self.lengths))
        self.count = len(self.starts)

    def slices(self):
        for start in self.starts.tolist():
            yield tuple(slice(first, first + length) for first, length in zip(start, self.lengths, strict=True))


def _table(windows):
    """Put the windows of all inputs below each other: (windows, 1 + most axes), the number of the input in front."""
    width = max(len(each.lengths) for each in windows)
    rows = []
    for number, each in enumerate(windows):
        filled = np.zeros((each.count, 1 + width), np.int32)
        filled[:, 0] = number
        filled[:, 1 : 1 + len(each.lengths)] = each.starts
        rows.append(filled)
    return np.concatenate(rows)


def _occluded(example, shared, sample):
    point, own, _ = example
    data, lengths, starts = shared
    number, baseline = background_row(own, data, sample)
    row = starts[number]
    occluded = []
    for which, (x, b, length) in enumerate(zip(point, baseline, lengths, strict=True)):
        is_inside = row[0] == which
        for axis in range(length.shape[0]):
            offset = jax.lax.broadcasted_iota(jnp.int32, x.shape, axis) - row[1 + axis]
            is_inside = is_inside & (offset >= 0) & (offset < length[axis])
        occluded.append(jnp.where(is_inside, b, x))
    return occluded, None


def _mean_over_windows(windows, shape, drops):
    """Average the drops (n, k, windows) of the windows that cover each element: (n, k, *shape)."""
    total = np.zeros((*drops.shape[:2], *shape[: len(windows.lengths)]))
    times = np.zeros(shape[: len(windows.lengths)])
    for number, where in enumerate(windows.slices()):
        total[(..., *where)] += drops[..., number].reshape(*drops.shape[:2], *[1] * len(where))
        times[where] += 1
    mean = total / times
    rest = shape[len(windows.lengths) :]
    return np.broadcast_to(mean.reshape(*mean.shape, *[1] * len(rest)), (*mean.shape, *rest))
