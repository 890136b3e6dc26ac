"""Coalitions: scores of an example in which some features are present and all others are at a baseline.

Scores of all coalitions of an example come back to the host, where methods add them up in double precision, example by
example: no sum depends on how many examples there are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import Tracer
from diffprog._util.warning import warn
from diffprog.attribute._core.attribution import Attribution, AttributionWarning
from diffprog.attribute._core.baseline import Baseline, Data, baseline_points, data_points
from diffprog.attribute._core.finish import check_scores, finish
from diffprog.attribute._core.players import Features, Players, credited, players_of
from diffprog.attribute._core.question import Question, is_float, pose
from diffprog.attribute._core.sweep import Make, scores_at, scores_of

NUM_LISTED = 5  # features that a message names


@dataclass(frozen=True)
class Background:
    """What takes the place of missing features.

    Attributes:
      own: a baseline for each example, arrays (n, ...); None if there are data.
      data: baselines to average over, arrays (m, ...), the same for all examples; None if each has its own.
      count: m, or 1.
    """

    own: Any
    data: Any
    count: int


@dataclass(frozen=True)
class Game:
    """A question whose points consist of features, with what takes their place.

    Attributes:
      method: that asks.
      question: what is asked.
      players: the features; None for a method that has others.
      background: what takes their place.
      progress: caption of a progress bar, or None.
    """

    method: str
    question: Question
    players: Players
    background: Background
    progress: str | None


def pose_without_gradients(
    method: str, model: Callable[..., Any], inputs: Any, score: Any, features: Features, at: Any, chunk: int | None
) -> Question:
    """Pose the question of a method that needs no gradients: integers can have credit too.

    Raises:
      ValueError: something does not fit, or JAX traces the inputs.
    """
    question = pose(model, inputs, score, at=at, chunk=chunk, credited=credited(features))
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((question.points, question.context))):
        raise ValueError(f"{method} adds up scores outside of JAX: call it outside of jit, vmap and grad")
    return question


def game(
    method: str,
    model: Callable[..., Any],
    inputs: Any,
    score: Any,
    features: Features,
    baseline: Baseline | Data,
    at: Any,
    chunk: int | None,
    progress: str | None,
) -> Game:
    """Check what is given, and make a game of it.

    Raises:
      ValueError: something does not fit.
    """
    question = pose_without_gradients(method, model, inputs, score, features, at, chunk)
    return Game(method, question, players_of(question, features), background_of(question, baseline), progress)


def background_of(question: Question, baseline: Baseline | Data) -> Background:
    """Find what takes the place of missing features: a baseline for each example, or data to average over."""
    if isinstance(baseline, Data) or _looks_like_data(question, baseline):
        rows, count = data_points(question, baseline)
        return Background(None, rows, count)
    if baseline is None and not all(is_float(point) for point in question.points):
        raise ValueError("credit to integers needs baseline=: the number that takes their place, as the id of a mask")
    return Background(baseline_points(question, baseline), None, 1)


def _looks_like_data(question, baseline):
    """Say whether rows are given, but neither one nor one for each example."""
    leaves, inputs = jax.tree.leaves(baseline), jax.tree.leaves(question.context[0])
    if callable(baseline) or len(leaves) != len(inputs):
        return False
    counts = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in leaves}
    same_rows = all(np.shape(leaf)[1:] == x.shape[1:] for leaf, x in zip(leaves, inputs, strict=True))
    same_rank = all(np.ndim(leaf) == x.ndim for leaf, x in zip(leaves, inputs, strict=True))
    return same_rank and same_rows and len(counts) == 1 and not counts & {0, 1, question.count}


# ---------------------------------------------------------------- scores of coalitions


@dataclass(frozen=True)
class Payoffs:
    """Scores of coalitions in double precision, for each of n examples and k scores (1 if only one is asked for).

    Attributes:
      coalitions: (n, k, S).
      none: (n, k), of the baseline: no feature is present.
      whole: (n, k), of the example itself: all features are present.
      evaluations: of the model, for each example.
    """

    coalitions: np.ndarray
    none: np.ndarray
    whole: np.ndarray
    evaluations: int

    def rows(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Give `coalitions`, `none` and `whole` of one example after the other."""
        return zip(self.coalitions, self.none, self.whole, strict=True)


def payoffs(game: Game, masks: np.ndarray) -> Payoffs:
    """Score coalitions; equal ones are evaluated once.

    Args:
      game: whose.
      masks: bool (S, M), which features are present.

    Returns:
      Scores of the coalitions, and of none and all features.

    Raises:
      ValueError: a score is not finite.
    """
    count = game.players.count
    ends = np.stack([np.zeros(count, bool), np.ones(count, bool)])
    packed, where = np.unique(np.packbits(np.concatenate([ends, masks]), axis=1), axis=0, return_inverse=True)
    unique = np.unpackbits(packed, axis=1, count=count).astype(bool)
    is_whole = unique.all(axis=1)  # the only one that is the same with any baseline
    parts = unique[~is_whole]
    missing = score_with(game, len(parts), _coalition, shared_groups(game), jnp.asarray(parts))
    whole = whole_scores(game)
    found = np.empty((*whole.shape[:2], len(unique)))
    found[..., is_whole], found[..., ~is_whole] = whole, missing
    check_payoffs(game, found, lambda number: _in_words(unique[number]))
    all_scores = found[..., where.reshape(-1)]
    evaluations = len(parts) * game.background.count + 1
    return Payoffs(all_scores[..., 2:], all_scores[..., 0], all_scores[..., 1], evaluations)


def whole_scores(game: Game) -> np.ndarray:
    """Score the examples as they are: (n, k, 1)."""
    scores = np.asarray(scores_of(game.question, game.question.points), np.float64)
    check_scores(game.question, scores, "the inputs")
    return three_axes(scores[:, None])


def score_with(game: Game, num_changes: int, make: Make, *shared: Any) -> np.ndarray:
    """Score each example with many changes, averaged over the background.

    Args:
      game: whose examples.
      num_changes: S.
      make: sees (points, own background, own groups) of an example, and (data, *shared).
      *shared: what all rows share.

    Returns:
      Array (n, k, S) in double precision.
    """
    question, background = game.question, game.background
    own_groups = [jnp.asarray(group) for group in game.players.groups] if game.players.are_own else None
    examples = (question.points, background.own, own_groups)
    samples = num_changes * background.count
    rows = scores_at(question, samples, make, examples, (background.data, *shared), game.progress)
    rows = np.asarray(rows, np.float64).reshape(question.count, num_changes, background.count, *rows.shape[2:])
    # One example at a time: NumPy may add up more rows in another order.
    return three_axes(np.stack([each.mean(axis=1) for each in rows]))


def for_each(scores: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Call a function of the scores (S,) of one example for each of (n, k, S), and stack the results."""
    return np.stack([np.stack([function(np.ascontiguousarray(row)) for row in rows]) for rows in scores])


def shared_groups(game: Game) -> list[jax.Array] | None:
    """Take the groups that all examples share; None if each has its own."""
    return None if game.players.are_own else [jnp.asarray(group) for group in game.players.groups]


def three_axes(rows: np.ndarray) -> np.ndarray:
    """Make (n, k, S) of scores (n, S) or (n, S, k)."""
    return rows[:, None] if rows.ndim == 2 else np.moveaxis(rows, 2, 1)


def background_row(own: Any, data: Any, sample: jax.Array) -> tuple[jax.Array, Any]:
    """Find the number of a change and the baseline of a sample."""
    if data is None:
        return sample, own
    count = data[0].shape[0]
    return sample // count, [leaf[sample % count] for leaf in data]


def _coalition(example, shared, sample):
    point, own, own_groups = example
    data, groups, masks = shared
    number, baseline = background_row(own, data, sample)
    is_present = masks[number]
    rows = zip(groups if own_groups is None else own_groups, point, baseline, strict=True)
    return [jnp.where(is_present[group], x, b) for group, x, b in rows], None


def check_payoffs(game: Game, found: np.ndarray, describe: Callable[[int], str]) -> None:
    """Require that scores are finite.

    Args:
      game: whose.
      found: (n, k, S).
      describe: says what was changed, from the number of a change.

    Raises:
      ValueError: one is not.
    """
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        example, which, change = bad[0].tolist()
        raise ValueError(
            f"{game.method}: the score is {found[example, which, change]} for example {example} with "
            f"{describe(change)} ({len(bad)} of {found.size} scores are not finite): choose another baseline, or look "
            "where it comes from with diffprog.diagnose"
        )


def _in_words(mask):
    missing = np.flatnonzero(~mask).tolist()
    if not missing:
        return "all features present"
    listed = ", ".join(map(str, missing[:NUM_LISTED])) + (", ..." if len(missing) > NUM_LISTED else "")
    return f"{len(missing)} of {len(mask)} features at the baseline: {listed}"


# ---------------------------------------------------------------- results


def credit(
    game: Game,
    values: np.ndarray,
    error: np.ndarray | None = None,
    *,
    score: np.ndarray,
    baseline_score: np.ndarray | None = None,
    divided: bool,
    is_complete: bool,
    evaluations: int,
    steps: int | None = None,
) -> Attribution:
    """Give the credit of features to their elements, and make the record.

    Args:
      game: whose.
      values: (n, k, M).
      error: standard errors like them.
      score: (n, k).
      baseline_score: (n, k).
      divided: whether a feature's credit is divided evenly over its elements, or each has all of it.
      is_complete: whether the gap is given.
      evaluations: of the model, for each example.
      steps: samples, for each example.
    """
    question = game.question
    maybe = lambda rows: None if rows is None else as_scores(question, rows)
    return warned(
        game,
        finish(
            question,
            game.method,
            spread(game, values, divided),
            as_scores(question, score),
            baseline_score=maybe(baseline_score),
            is_complete=is_complete,
            error=None if error is None else spread(game, error, divided),
            evaluations=evaluations,
            steps=steps,
            per_feature=maybe(values),
            per_feature_error=maybe(error),
            explains_zeros=False,
        ),
    )


def warned(game: Game, result: Attribution) -> Attribution:
    """Warn of examples that get no credit at all, and return the result."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(result.values)]
    rows_at = 0 if game.question.num_scores is None else 1
    is_zero = np.ones(game.question.count, bool)
    for leaf in leaves:
        is_zero &= (leaf == 0).all(axis=tuple(axis for axis in range(leaf.ndim) if axis != rows_at))
    if is_zero.any():
        warn(
            f"{game.method} credits nothing at all for {int(is_zero.sum())} of {game.question.count} examples, the "
            f"first is {int(is_zero.argmax())}: the score did not change. {_reason(game, int(is_zero.argmax()))}",
            AttributionWarning,
        )
    return result


def _reason(game, example):
    own = game.background.own
    points = game.question.points
    if own is not None and all(np.array_equal(x[example], b[example]) for x, b in zip(points, own, strict=True)):
        return (
            "Its baseline is the example itself: give another, or baselines.data(rows) for the mean over the rows of a "
            "data set"
        )
    return "Does it depend on what gets the credit?"


def spread(game: Game, values: np.ndarray, divided: bool) -> list[jax.Array]:
    """Give the credit of features (n, k, M) to their elements: arrays like the points, (n, ...) or (n, k, ...)."""
    question, players = game.question, game.players
    shapes = [point.shape[1:] for point in question.points]
    found: list[list[np.ndarray]] = [[] for _ in shapes]
    for example, rows in enumerate(values):
        groups = [np.broadcast_to(group, shape) for group, shape in zip(players.of(example), shapes, strict=True)]
        sizes = sum(np.bincount(group.ravel(), minlength=players.count) for group in groups)
        per_element = rows / sizes if divided else rows
        for leaf, group in zip(found, groups, strict=True):
            leaf.append(per_element[:, group])
    return [as_scores(question, np.stack(leaf)) for leaf in found]


def as_scores(question: Question, rows: np.ndarray) -> jax.Array:
    """Make an array of JAX of rows (n, k, ...), without the axis k if one score was asked for."""
    rows = rows[:, 0] if question.num_scores is None else rows
    return jnp.asarray(rows, question.dtype)
