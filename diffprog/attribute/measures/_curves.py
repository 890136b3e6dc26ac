"""Insertion and deletion: the score while features come or go in the order of their credit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog._util.spelling import answers_names
from diffprog.attribute import features as groups
from diffprog.attribute._core.baseline import Baseline, baseline_points
from diffprog.attribute._core.players import Features
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._core.sweep import scores_at
from diffprog.attribute.measures._credit import Asked, ask, check_many_scores, per_element, ranks
from diffprog.attribute.measures._measured import Measured, measured
from diffprog.attribute.measures._probability import probabilities

STEPS = 100
POSITIONS = groups.pixels()


@answers_names(MEANT)
@own_promotion()
def deletion(
    model: Callable[..., Any],
    inputs: Any,
    attribution: Any,
    score: Any = None,
    *,
    baseline: Baseline = None,
    features: Features = POSITIONS,
    steps: int | None = None,
    is_probability: bool = False,
    key: Any = 0,
    at: Any = None,
    chunk: int | None = None,
    progress: str | None = None,
) -> Measured:
    """Take features away, those of the largest credit first, and average the score over the way: low is good.

    What is left when features are gone is no input that the model has seen, which is why low values may be an artifact.
    Read it together with `insertion`, which errs the other way, and with `road`.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      attribution: an `Attribution` of them, or its values.
      score: what is explained.
      baseline: what takes the place of what is gone; zeros by default.
      features: what goes together; positions with all their channels by default.
      steps: number of equal steps from all to none, at most one for each feature; by default that many, or 100.
      is_probability: whether the score, a class, is measured as softmax's probability, as in the paper.
      key: decides the order of features of equal credit.
      at: selectors of the values that have the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      `Measured`: the area under the curve, by the trapezoidal rule, of the score against the share that is gone, 0 to
      1; and the curve. At equal steps this is (sum - (first + last) / 2) / (points - 1).

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Petsiuk et al., "RISE: randomized input sampling for explanation of black-box models", 2018.
    """
    asked = _ask(model, inputs, attribution, score, features, is_probability, at, chunk)
    return _curve("deletion", asked, baseline, steps, key, progress)


@answers_names(MEANT)
@own_promotion()
def insertion(
    model: Callable[..., Any],
    inputs: Any,
    attribution: Any,
    score: Any = None,
    *,
    baseline: Baseline = None,
    features: Features = POSITIONS,
    steps: int | None = None,
    is_probability: bool = False,
    key: Any = 0,
    at: Any = None,
    chunk: int | None = None,
    progress: str | None = None,
) -> Measured:
    """Put features into the baseline, those of the largest credit first, and average the score: high is good.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      attribution: an `Attribution` of them, or its values.
      score: what is explained.
      baseline: what is there at the start; zeros by default. The paper starts from `baselines.rise_blur()`.
      features: what comes together; positions with all their channels by default.
      steps: number of equal steps from none to all, at most one for each feature; by default that many, or 100.
      is_probability: whether the score, a class, is measured as softmax's probability, as in the paper.
      key: decides the order of features of equal credit.
      at: selectors of the values that have the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      `Measured`: the area under the curve, by the trapezoidal rule, of the score against the share that is there, 0 to
      1; and the curve.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Petsiuk et al., "RISE: randomized input sampling for explanation of black-box models", 2018.
    """
    asked = _ask(model, inputs, attribution, score, features, is_probability, at, chunk)
    return _curve("insertion", asked, baseline, steps, key, progress)


def _ask(model, inputs, attribution, score, features, is_probability, at, chunk):
    if is_probability:
        model, score = probabilities(model, score)
    return ask(model, inputs, attribution, score, features, at, chunk)


def _curve(name: str, asked: Asked, baseline: Any, steps: int | None, key: Any, progress: str | None) -> Measured:
    question, players = asked.question, asked.players
    counts = _counts(players.count, steps)
    order = per_element(players, ranks(asked.credit, key))
    background = baseline_points(question, baseline)
    start, end = (question.points, background) if name == "deletion" else (background, question.points)
    examples = (start, end, [jnp.asarray(each) for each in order])
    curve = scores_at(question, len(counts), _partly, examples, jnp.asarray(counts, jnp.int32), progress)
    curve = np.asarray(curve, np.float64)
    check_many_scores(question, curve, "the inputs with features changed")
    shares = counts / players.count
    areas = [np.trapezoid(each, shares) for each in curve]
    return measured(name, areas, question.count, len(counts), curve=curve, at=shares)


def _counts(count: int, steps: int | None) -> np.ndarray:
    """Say how many features are changed at each point of the curve."""
    steps = min(count, STEPS) if steps is None else check_count(steps, "steps")
    if steps > count:
        raise ValueError(f"steps must be at most the number of features, {count}; found {steps}")
    return np.arange(steps + 1) * count // steps


def _partly(example: Any, counts: jax.Array, sample: jax.Array) -> tuple[Any, None]:
    """Change the features that come first."""
    start, end, order = example
    rows = zip(start, end, order, strict=True)
    return [jnp.where(rank < counts[sample], e, s) for s, e, rank in rows], None
