"""The gradient itself, multiplied by the input, and averaged over noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffprog._util import draws
from diffprog._util.numbers import check_count, check_positive
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._core.baseline import Baseline, baseline_points
from diffprog.attribute._core.finish import finish
from diffprog.attribute._core.question import pose
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._core.sweep import scores_and_slopes, sweep
from diffprog.attribute._gradients.moments import Moments, no_samples
from diffprog.graph import Selector

At = Selector | list[Selector] | None
MOMENTS = ("mean", "square", "variance")


@answers_names(MEANT)
@own_promotion()
def gradient(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    at: At = None,
    chunk: int | None = None,
    engine: str = "diffprog",
    progress: str | None = None,
) -> Attribution:
    """Compute how fast the score changes with each input.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: examples of one run; found by itself.
      engine: gradients by "diffprog" or by "jax".
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution` whose values are d score / d input, signed.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Simonyan et al., "Deep inside convolutional networks", 2014: the picture there is the largest absolute value over
      the channels.
    """
    question = pose(model, inputs, score, at=at, chunk=chunk, engine=engine)
    scores, values = scores_and_slopes(question, progress)
    return finish(question, "gradient", values, scores, evaluations=1)


@answers_names(MEANT)
@own_promotion()
def gradient_times_input(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    baseline: Baseline = None,
    at: At = None,
    chunk: int | None = None,
    engine: str = "diffprog",
    progress: str | None = None,
) -> Attribution:
    """Multiply the gradient by the input's difference from the baseline: exact for a linear model.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      baseline: what inputs are compared with; zeros by default.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: examples of one run; found by itself.
      engine: gradients by "diffprog" or by "jax".
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution`. Its gap is what the linear approximation misses.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Shrikumar et al., "Not just a black box", 2016.
    """
    question = pose(model, inputs, score, at=at, chunk=chunk, engine=engine)
    start = baseline_points(question, baseline)
    scores, slopes = scores_and_slopes(question, progress)
    baseline_scores, _ = scores_and_slopes(question.with_points(start))
    times = lambda g, x, b: g * _beside_scores(question, x - b)
    values = jax.tree.map(times, slopes, question.points, start)
    return finish(
        question,
        "gradient_times_input",
        values,
        scores,
        baseline_score=baseline_scores,
        is_complete=True,
        evaluations=2,
    )


@answers_names(MEANT)
@own_promotion()
def smooth_gradient(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    key: Any,
    samples: int = 50,
    noise: float = 0.15,
    is_absolute: bool = False,
    moment: str = "mean",
    at: At = None,
    chunk: int | None = None,
    engine: str = "diffprog",
    progress: str | None = None,
) -> Attribution:
    """Average the gradient over noisy copies of the input (SmoothGrad), or its square, or take its variance (VarGrad).

    The noise is normal, and the same for every example. Variances are summed without cancellation.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      key: a JAX random key, or a seed.
      samples: noisy copies, 2 or more.
      noise: standard deviation of the noise, as a part of the range (largest minus smallest value) of each example.
      is_absolute: whether `noise` is in units of the inputs instead.
      moment: "mean" of the gradients, mean "square", or "variance" (without bias, over samples - 1).
      at: selectors of the values that get the noise and the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      engine: gradients by "diffprog" or by "jax".
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution` with the standard errors of its values.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017. Hooker et al., "A benchmark for
      interpretability methods", 2019 (squares). Adebayo et al., "Local explanation methods for deep neural networks
      lack sensitivity to parameter values", 2018 (variance).
    """
    if moment not in MOMENTS:
        raise ValueError(f"moment must be one of {', '.join(map(repr, MOMENTS))}; found {moment!r}")
    samples, key = check_count(samples, "samples", 2), random_key(key)
    question = pose(model, inputs, score, at=at, chunk=chunk, engine=engine)
    deviations = [_deviation(leaf, check_positive(noise, "noise"), is_absolute) for leaf in question.points]
    state = no_samples(question, to_four=moment == "variance")
    fold = _fold_square if moment == "square" else _fold
    examples = (question.points, deviations)
    moments: Moments = sweep(question, samples, _noisy, examples, key, fold, state, progress=progress)
    scores, _ = scores_and_slopes(question)
    mean, variance, error = moments.estimates(question)
    values = variance if moment == "variance" else mean
    return finish(
        question,
        "smooth_gradient",
        values,
        scores,
        error=error,
        evaluations=samples + 1,
        steps=samples,
        explains_zeros=moment != "variance",
    )


def _beside_scores(question, leaf):
    """Give an array (n, ...) an axis for scores, where gradients have one."""
    return leaf if question.num_scores is None else leaf[:, None]


def _deviation(leaf, noise, is_absolute):
    """Make the deviation of the noise of each example."""
    axes = tuple(range(1, leaf.ndim))
    spread = jnp.ones(len(leaf), leaf.dtype) if is_absolute else leaf.max(axis=axes) - leaf.min(axis=axes)
    return jnp.asarray(noise, leaf.dtype) * spread


def _noisy(example, key, sample):
    points, deviations = example
    keys = jax.random.split(jax.random.fold_in(key, sample), len(points))
    noisy = [
        leaf + deviation * draws.normal(key, leaf.shape).astype(leaf.dtype)
        for leaf, deviation, key in zip(points, deviations, keys, strict=True)
    ]
    return noisy, None


def _fold(state, score, slope, _):
    return state.add(slope)


def _fold_square(state, score, slope, _):
    return state.add(jax.tree.map(lambda leaf: leaf**2, slope))
