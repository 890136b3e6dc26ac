"""Interactions of pairs: what two features do together beyond what each does alone."""

from collections.abc import Callable
from functools import partial
from itertools import combinations
from math import comb
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffprog._util.promotion import own_promotion
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._core.baseline import Baseline, Data
from diffprog.attribute._core.finish import gap_of
from diffprog.attribute._core.players import Features
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._perturbation.coalitions import as_scores, for_each, game, payoffs
from diffprog.attribute._perturbation.orders import check_samples, mean_and_error, orders
from diffprog.attribute._perturbation.shapley import all_masks, check_exact, exact_values
from diffprog.graph import Selector

INDICES = ("shapley", "taylor")


@answers_names(MEANT)
@own_promotion()
def shapley_interactions(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    index: str = "shapley",
    features: Features = None,
    baseline: Baseline | Data = None,
    samples: int | None = None,
    key: Any = None,
    at: Selector | list[Selector] | None = None,
    chunk: int | None = None,
    progress: str | None = None,
) -> Attribution:
    """Credit pairs of features with what they do together beyond what each does alone.

    The interaction of i and j is the mean of v(S, i, j) - v(S, i) - v(S, j) + v(S) over coalitions S of the others.
    Half of it is entry (i, j), half (j, i); all entries add up to the score minus the baseline's score. The mean is

        index      over S                                             entry (i, i)
        "shapley"  in a random order of the others and the pair       what its Shapley value leaves: row i adds up to it
        "taylor"   before the first of the pair in a random order     what i does alone, v(i) - v()

    Features that add up without meeting have no interaction, and a product of two has nothing but theirs ("taylor").
    Without `samples`, all 2^M coalitions of up to 12 features are evaluated. With `samples`, so many orders are drawn,
    each with its reverse; each takes up to M^2 evaluations. Draws are the same for every example.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      index: "shapley" (Shapley interaction index) or "taylor" (Shapley-Taylor index of pairs).
      features: the players, see `diffprog.attribute.features`; each element by default.
      baseline: what takes the place of missing features; a number, an array, a function, or a data set of m rows over
        which scores are averaged, `baselines.data(rows)`; zeros by default.
      samples: orders, at least 4, made even; all coalitions by default.
      key: a JAX random key, or a seed, for `samples`.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution` whose values are (n, M, M), and standard errors like them where orders are drawn.

    Raises:
      ValueError: something does not fit, or there are more than 12 features and no `samples`.

    References:
      Grabisch & Roubens, "An axiomatic approach to the concept of interaction among players in cooperative games",
      1999. Lundberg et al., "From local explanations to global understanding with explainable AI for trees", 2020 (the
      matrix). Sundararajan et al., "The Shapley Taylor interaction index", 2020.
    """
    if index not in INDICES:
        raise ValueError(f"index must be one of {', '.join(map(repr, INDICES))}; found {index!r}")
    asked = game("shapley_interactions", model, inputs, score, features, baseline, at, chunk, progress)
    count = asked.players.count
    if samples is None:
        check_exact("shapley_interactions", count)
        found = payoffs(asked, all_masks(count))
        values, error = for_each(found.coalitions, partial(_exact, index)), None
    else:
        samples, key = check_samples(samples, key)
        masks, differences = _sampled(index, orders(key, samples, count))
        found = payoffs(asked, masks)
        rows = [[mean_and_error(_pairs_of(index, row[differences])) for row in rows] for rows in found.coalitions]
        values, error = np.moveaxis(np.array(rows), 2, 0)
    question = asked.question
    totals = [as_scores(question, each) for each in (values, found.whole, found.none)]
    gap = gap_of(totals[1], totals[2], [totals[0]])
    scores_first = (lambda x: x) if question.num_scores is None else (lambda x: jnp.moveaxis(x, 1, 0))
    values, score, none, gap = map(scores_first, (*totals, gap))
    return Attribution(
        values=values,
        score=score,
        baseline_score=none,
        gap=gap,
        error=None if error is None else scores_first(as_scores(question, error)),
        evaluations=np.full(question.count, found.evaluations),
        steps=None if samples is None else np.full(question.count, samples),
        method="shapley_interactions",
    )


def _exact(index: str, scores: np.ndarray) -> np.ndarray:
    """Compute the matrix (M, M) from the scores of all coalitions, (2^M,), in the order of `all_masks`."""
    count = scores.size.bit_length() - 1
    if count == 1:
        return np.diff(scores)[:, None]
    table = scores.reshape((2,) * count)  # the last axis is feature 0
    sizes = all_masks(count - 2).sum(axis=1)
    ways = np.array([comb(count - 2 if index == "shapley" else count - 1, int(size)) for size in sizes], np.float64)
    weights = 1 / ((count - 1) * ways) if index == "shapley" else 2 / (count * ways)
    matrix = np.zeros((count, count))
    for i, j in combinations(range(count), 2):
        together = np.diff(np.diff(table, axis=count - 1 - i), axis=count - 1 - j)
        matrix[i, j] = matrix[j, i] = weights @ together.ravel() / 2
    if index == "shapley":
        return matrix + np.diag(exact_values(scores) - matrix.sum(axis=1))
    return matrix + np.diag(scores[1 << np.arange(count)] - scores[0])


def _sampled(index: str, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """List the coalitions that the drawn orders ask for.

    Returns:
      Masks (S * M * M * 4, M), and which of them are of use: (S, M, M, 4), the numbers of S, S + i, S + j and S + i +
      j. On the diagonal the first two are what i joins, and what comes of it.
    """
    samples, count = drawn.shape
    places = np.argsort(drawn, axis=1)
    number = np.arange(count)
    before = places[:, None, :] < places[:, :, None]  # (S, i, M): who has joined before i
    if index == "shapley":
        common = np.repeat(before[:, :, None, :], count, axis=2)  # before i, without j
    else:
        common = before[:, :, None, :] & before[:, None, :, :]  # before the first of the two
        common[:, number, number] = False  # alone
    common[:, :, number, number] = False
    common[:, number, :, number] = False
    with_i, with_j = common.copy(), common.copy()
    with_i[:, number, :, number] = True
    with_j[:, :, number, number] = True
    masks = np.stack([common, with_i, with_j, with_i | with_j], axis=3)
    return masks.reshape(-1, count), np.arange(masks.size // count).reshape(samples, count, count, 4)


def _pairs_of(index, scores):
    """Compute the matrix of each order, (S, M, M), from scores (S, M, M, 4) of one example."""
    both = scores[..., 3] - scores[..., 1] - scores[..., 2] + scores[..., 0]
    both = (both + np.swapaxes(both, 1, 2)) / 4
    diagonal = np.arange(both.shape[1])
    both[:, diagonal, diagonal] = 0
    alone = (scores[..., 1] - scores[..., 0])[:, diagonal, diagonal]
    both[:, diagonal, diagonal] = alone - (both.sum(axis=2) if index == "shapley" else 0)
    return both
