"""From sums of a sweep to an `Attribution`: gaps, and warnings of numbers that deserve no trust."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import Tracer
from diffprog._util.warning import warn
from diffprog.attribute._core.attribution import Attribution, AttributionWarning
from diffprog.attribute._core.question import Question
from diffprog.diagnosis import diagnose


def finish(
    question: Question,
    method: str,
    values: Any,
    score: jax.Array,
    *,
    baseline_score: jax.Array | None = None,
    is_complete: bool = False,
    error: Any = None,
    evaluations: Any = None,
    steps: Any = None,
    converged: Any = None,
    per_feature: Any = None,
    per_feature_error: Any = None,
    unruled: tuple[str, ...] = (),
    explains_zeros: bool = True,
) -> Attribution:
    """Make the record of a method's result, and warn of what deserves no trust.

    Args:
      question: what was asked.
      method: its name.
      values: pytree like the question's points, (n, ...), or of k scores (n, k, ...).
      score: of the points, (n,) or (n, k).
      baseline_score: likewise, of the baseline.
      is_complete: whether an axiom says that the values add up to score - baseline_score; the gap is given then.
      error: standard errors like the values.
      evaluations: runs of the model for each example: a number, or (n,).
      steps: points or samples: a number, or (n,).
      converged: (n,).
      per_feature: (n, features) or (n, k, features).
      per_feature_error: likewise.
      unruled: operations without a backward rule.
      explains_zeros: whether examples whose values are all 0 are warned of, with the reason that `dp.diagnose` finds.

    Returns:
      An `Attribution`.

    Raises:
      ValueError: a score is not finite.
    """
    check_scores(question, score, "the inputs")
    if baseline_score is not None:
        check_scores(question, baseline_score, "the baseline")
    gap = None
    if is_complete:
        start = jnp.zeros_like(score) if baseline_score is None else baseline_score
        gap = gap_of(score, start, values)
    _warn_of_values(question, method, values, explains_zeros)
    per_example = lambda number: None if number is None else np.broadcast_to(np.asarray(number), (question.count,))
    scores_first = (lambda x: x) if question.num_scores is None else (lambda x: jnp.moveaxis(x, 1, 0))
    turned = lambda tree: jax.tree.map(scores_first, tree)
    return Attribution(
        values=question.present(jax.tree.leaves(turned(values))),
        score=turned(score),
        baseline_score=turned(baseline_score),
        gap=turned(gap),
        error=None if error is None else question.present(jax.tree.leaves(turned(error))),
        evaluations=per_example(evaluations),
        steps=per_example(steps),
        converged=converged,
        per_feature=turned(per_feature),
        per_feature_error=turned(per_feature_error),
        method=method,
        unruled=unruled,
    )


def gap_of(score: jax.Array, baseline_score: jax.Array, values: Any) -> jax.Array:
    """Compute score - baseline_score - sum of the values of each example, (n,) or (n, k).

    Sums of known numbers are in double precision: the gap is no rounding of the sum's.
    """
    leaves = jax.tree.leaves(values)
    if any(isinstance(x, Tracer) for x in (score, baseline_score, *leaves)):
        total = sum(leaf.sum(axis=tuple(range(score.ndim, leaf.ndim))) for leaf in leaves)
        return score - baseline_score - total
    total = sum(np.asarray(x, np.float64).sum(axis=tuple(range(score.ndim, x.ndim))) for x in leaves)
    gap = np.asarray(score, np.float64) - np.asarray(baseline_score, np.float64) - total
    return jnp.asarray(gap, score.dtype)


def check_scores(question: Question, score: jax.Array | np.ndarray, of: str) -> None:
    """Require scores that are finite.

    Raises:
      ValueError: one is not.
    """
    if isinstance(score, Tracer):
        return
    bad = ~np.isfinite(np.asarray(score)).reshape(question.count, -1).all(axis=1)
    if bad.any():
        first = int(bad.argmax())
        raise ValueError(
            f"the score of {of} is {np.asarray(score)[first]} for example {first} ({int(bad.sum())} of "
            f"{question.count} are not finite): {why(question, first)}"
        )


def why(question: Question, example: int) -> str:
    """Say what is wrong with an example's gradient, in the words of `dp.diagnose`."""
    row = lambda tree: jax.tree.map(lambda leaf: leaf[example : example + 1], tree)
    context = row(question.context)
    try:
        findings = diagnose(lambda points: jnp.sum(question.lifted(points, context)))(row(question.points)).findings
    except Exception:  # whatever the user's model raises here, it has been run
        findings = ()
    return (
        str(findings[0]) if findings else "look for rounding, thresholds or a stopped gradient, with diffprog.diagnose"
    )


def _warn_of_values(question, method, values, explains_zeros):
    leaves = jax.tree.leaves(values)
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        return
    rows = [np.asarray(leaf).reshape(question.count, -1) for leaf in leaves]
    bad = ~np.all([np.isfinite(each).all(axis=1) for each in rows], axis=0)
    if bad.any():
        first = int(bad.argmax())
        warn(
            f"{method} gives NaN or infinity for {int(bad.sum())} of {question.count} examples: {why(question, first)}",
            AttributionWarning,
        )
    empty = np.all([(each == 0).all(axis=1) for each in rows], axis=0)
    if explains_zeros and empty.any():
        first = int(empty.argmax())
        warn(
            f"{method} credits nothing at all for {int(empty.sum())} of {question.count} examples: "
            f"{why(question, first)}",
            AttributionWarning,
        )
