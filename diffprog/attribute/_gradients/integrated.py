"""Integrated and expected gradients: the sum of all slopes on the way from the baseline to the input."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import Tracer
from diffprog._util import draws
from diffprog._util.factory import factory
from diffprog._util.numbers import check_count, check_positive
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.spelling import answers_names
from diffprog._util.warning import warn
from diffprog.attribute._core.attribution import Attribution, AttributionWarning
from diffprog.attribute._core.baseline import Baseline, baseline_points, data_points
from diffprog.attribute._core.finish import finish, gap_of
from diffprog.attribute._core.question import Question, pose
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._core.sweep import scores_of, sweep, zero_scores, zeros
from diffprog.attribute._gradients.gradient import At
from diffprog.attribute._gradients.moments import Moments, no_samples
from diffprog.attribute._gradients.quadrature import nodes_and_weights
from diffprog.attribute.paths import Path, straight

ENDS = 2  # samples of every sweep along a path that are not on the quadrature's nodes: the input and the start


class PathSums(NamedTuple):
    """What is kept of a way.

    Attributes:
      values: sums of weight x slope x velocity so far.
      score: at the input.
      baseline_score: at the start.
    """

    values: Any
    score: jax.Array
    baseline_score: jax.Array


@answers_names(MEANT)
@own_promotion()
def integrated_gradients(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    baseline: Baseline = None,
    steps: int = 50,
    quadrature: str = "gauss_legendre",
    until_gap: float | None = None,
    max_steps: int = 800,
    path: Path = straight,
    at: At = None,
    chunk: int | None = None,
    engine: str = "diffprog",
    progress: str | None = None,
) -> Attribution:
    """Integrate the gradient on the way from the baseline to the input.

    The values add up to the score minus the baseline's score, but for the error of the quadrature, which is the gap.
    On real networks 50 steps may leave a gap as large as the score: look at it, or ask for `until_gap`.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      baseline: where the way begins; zeros by default.
      steps: points on the way.
      quadrature: "gauss_legendre", "midpoint" or "trapezoid".
      until_gap: the steps of an example are doubled until its gap is at most this part of |score - baseline_score|;
        `converged` says whether it is.
      max_steps: the most steps, where they are doubled.
      path: another way than the straight one, see `attribute.paths`; the baseline's score is that of its start.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      engine: gradients by "diffprog" or by "jax".
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution`.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Sundararajan et al., "Axiomatic attribution for deep networks", 2017.
    """
    question = pose(model, inputs, score, at=at, chunk=chunk, engine=engine)
    start = start_of(question, path, baseline)
    if until_gap is not None:
        return _until(question, start, path, quadrature, steps, until_gap, max_steps, progress)
    sums = along(question, start, path, quadrature, steps, None, progress)
    return finish(
        question,
        "integrated_gradients",
        sums.values,
        sums.score,
        baseline_score=sums.baseline_score,
        is_complete=True,
        evaluations=steps + ENDS,
        steps=steps,
    )


def start_of(question: Question, path: Path, baseline: Baseline) -> Any:
    """Find where a path begins; one that needs no baseline takes none."""
    if baseline is not None and getattr(path, "needs_no_baseline", False):
        raise ValueError("this path begins at the input itself, blurred, and not at a baseline: leave baseline out")
    return baseline_points(question, baseline)


def along(
    question: Question,
    start: Any,
    path: Path,
    quadrature: str,
    steps: int,
    rows: np.ndarray | None = None,
    progress: str | None = None,
) -> PathSums:
    """Integrate along a path, for all examples or some; the sums of others stay 0."""
    nodes, weights = nodes_and_weights(quadrature, steps)
    parts = jnp.asarray(np.concatenate([[1, 0], nodes]), question.dtype)
    shares = jnp.asarray(np.concatenate([[0, 0], weights]), question.dtype)
    state = PathSums(zeros(question), zero_scores(question), zero_scores(question))
    examples = (start, question.points)
    make = _points_of(path)
    return sweep(
        question, steps + ENDS, make, examples, (parts, shares), _add_slope, state, rows=rows, progress=progress
    )


@factory
def _points_of(path):
    def make(example, shared, sample):
        parts, weights = shared
        point, (_, velocity) = point_on(path)(example, parts[sample], sample)
        return point, (sample, weights[sample], velocity)

    return make


@factory
def point_on(path: Path) -> Callable[[Any, Any, Any], Any]:
    """Make the function that makes the point of a path, for `sweep`: (point, (point, velocity))."""

    def make(example, part, sample):
        start, end = example
        point, velocity = jax.jvp(lambda part: path(start, end, part), (part,), (jnp.ones_like(part),))
        return point, (point, velocity)

    return make


def _add_slope(state, score, slope, extra):
    sample, weight, velocity = extra

    def add(total, g, v):
        # At the ends, whose weight is 0, a slope may be infinite.
        return total + jnp.where(weight == 0, 0, weight * (g * v).astype(total.dtype))

    keep = lambda old, is_here: jnp.where(is_here, score.astype(old.dtype), old)
    values = jax.tree.map(add, state.values, slope, velocity)
    return PathSums(values, keep(state.score, sample == 0), keep(state.baseline_score, sample == 1))


def _until(question, start, path, quadrature, steps, until_gap, max_steps, progress):
    check_positive(until_gap, "until_gap")
    max_steps = check_count(max_steps, "max_steps", check_count(steps, "steps"))
    if any(isinstance(leaf, Tracer) for leaf in (*question.points, *start)):
        raise ValueError("until_gap looks at the gap, which has no value under a transformation of JAX: give steps=")
    open_rows, taken = np.arange(question.count), np.zeros(question.count, np.int32)
    evaluations, is_met = np.zeros(question.count, np.int32), np.zeros(question.count, bool)
    sums = None
    while True:
        found = along(question, start, path, quadrature, steps, open_rows, progress)
        sums = found if sums is None else _with_rows(sums, found, open_rows)
        taken[open_rows], evaluations[open_rows] = steps, evaluations[open_rows] + steps + ENDS
        gaps, differences = _gaps(question, sums)
        is_met = (gaps <= until_gap * differences).reshape(question.count, -1).all(axis=1)
        open_rows = np.flatnonzero(~is_met)
        if not len(open_rows) or steps == max_steps:
            break
        steps = min(2 * steps, max_steps)
    if len(open_rows):
        warn(
            f"integrated_gradients is not within {until_gap:g} of the difference after {steps} steps for "
            f"{len(open_rows)} of {question.count} examples: look at gap, or give more max_steps",
            AttributionWarning,
        )
    return finish(
        question,
        "integrated_gradients",
        sums.values,
        sums.score,
        baseline_score=sums.baseline_score,
        is_complete=True,
        evaluations=evaluations,
        steps=taken,
        converged=is_met,
    )


def _gaps(question, sums):
    gaps = np.asarray(gap_of(sums.score, sums.baseline_score, sums.values), np.float64)
    return np.abs(gaps), np.abs(np.asarray(sums.score, np.float64) - np.asarray(sums.baseline_score, np.float64))


def _with_rows(old, new, rows):
    return jax.tree.map(lambda old, new: old.at[rows].set(new[rows]), old, new)


@answers_names(MEANT)
@own_promotion()
def expected_gradients(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    baseline: Any,
    key: Any,
    samples: int = 200,
    at: At = None,
    chunk: int | None = None,
    engine: str = "diffprog",
    progress: str | None = None,
) -> Attribution:
    """Average integrated gradients over baselines drawn from data, each at one random point of the way.

    Draws are the same for every example.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      baseline: data to compare with, a pytree like the inputs with any number m of rows.
      key: a JAX random key, or a seed.
      samples: pairs of a baseline and a point.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      engine: gradients by "diffprog" or by "jax".
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution` with standard errors. The baseline's score is the mean over the data, or over `samples` draws
      where there are more data; the gap is of the size of the sampling error.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Erion et al., "Improving performance of deep learning models with axiomatic attribution priors and expected
      gradients", 2021.
    """
    samples, key = check_count(samples, "samples", 2), random_key(key)
    question = pose(model, inputs, score, at=at, chunk=chunk, engine=engine)
    data, count = data_points(question, baseline)
    chosen = draws.uniform(jax.random.fold_in(key, 0), (samples,), 0, count).astype(jnp.int32)
    parts = draws.uniform(jax.random.fold_in(key, 1), (samples,)).astype(question.dtype)
    drawn = (data, jnp.minimum(chosen, count - 1), parts)
    moments: Moments = sweep(
        question, samples, _between, question.points, drawn, _fold_product, no_samples(question), progress=progress
    )
    mean, _, error = moments.estimates(question)
    compared = jnp.arange(count, dtype=jnp.int32) if count <= samples else drawn[1]
    zero = zero_scores(question)
    total = sweep(question, len(compared), _datum, question.points, (data, compared), _add_score, zero, gradients=False)
    return finish(
        question,
        "expected_gradients",
        mean,
        scores_of(question, question.points),
        baseline_score=total / len(compared),
        is_complete=True,
        error=error,
        evaluations=samples + len(compared) + 1,
        steps=samples,
    )


def _between(point, drawn, sample):
    data, chosen, parts = drawn
    baseline = [leaf[chosen[sample]] for leaf in data]
    velocity = [x - b for x, b in zip(point, baseline, strict=True)]
    return straight(baseline, point, parts[sample]), velocity


def _fold_product(state, score, slope, velocity):
    return state.add(jax.tree.map(jnp.multiply, slope, velocity))


def _datum(point, shared, sample):
    rows, compared = shared
    return [leaf[compared[sample]] for leaf in rows], None


def _add_score(state, score, slope, extra):
    return state + score.astype(state.dtype)
