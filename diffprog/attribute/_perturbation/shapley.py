"""Shapley values: each feature's credit is its mean contribution to all coalitions of the others."""

from collections.abc import Callable
from math import comb
from typing import Any

import numpy as np

from diffprog._util.promotion import own_promotion
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._core.baseline import Baseline, Data
from diffprog.attribute._core.players import Features
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._perturbation.coalitions import Payoffs, credit, for_each, game, payoffs
from diffprog.attribute._perturbation.orders import check_samples, mean_and_error, orders, prefixes
from diffprog.graph import Selector

MOST_EXACT = 12  # players, with 4096 coalitions


@answers_names(MEANT)
@own_promotion()
def shapley(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    features: Features = None,
    baseline: Baseline | Data = None,
    samples: int | None = None,
    key: Any = None,
    at: Selector | list[Selector] | None = None,
    chunk: int | None = None,
    progress: str | None = None,
) -> Attribution:
    """Credit each feature with its mean contribution over all orders in which features may join.

    Without `samples`, all 2^M coalitions of up to 12 features are evaluated, and the values are exact. With `samples`,
    so many orders are drawn, each with its reverse; each takes M - 1 evaluations, and equal coalitions are evaluated
    once. The values add up to the score minus the baseline's score either way. Draws are the same for every example.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      features: the players, see `diffprog.attribute.features`; each element by default.
      baseline: what takes the place of missing features; a number, an array, a function, or a data set of m rows over
        which scores are averaged, `baselines.data(rows)`; zeros by default.
      samples: orders, at least 4, made even; all coalitions by default.
      key: a JAX random key, or a seed, for `samples`.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution`: a feature's credit is divided over its elements; `per_feature` has it whole. Of sampled values,
      with standard errors.

    Raises:
      ValueError: something does not fit, or there are more than 12 features and no `samples`.

    References:
      Shapley, "A value for n-person games", 1953. Castro et al., "Polynomial calculation of the Shapley value based on
      sampling", 2009. Mitchell et al., "Sampling permutations for Shapley value estimation", 2022 (antithetic).
    """
    asked = game("shapley", model, inputs, score, features, baseline, at, chunk, progress)
    count = asked.players.count
    if samples is None:
        check_exact("shapley", count)
        found = payoffs(asked, all_masks(count))
        values, error = for_each(found.coalitions, exact_values), None
    else:
        samples, key = check_samples(samples, key)
        drawn = orders(key, samples, count)
        found = payoffs(asked, prefixes(drawn).reshape(-1, count))
        values, error = mean_contributions(drawn, found)
    return credit(
        asked,
        values,
        error,
        score=found.whole,
        baseline_score=found.none,
        divided=True,
        is_complete=True,
        evaluations=found.evaluations,
        steps=samples,
    )


def check_exact(method: str, count: int) -> None:
    """Require that there are few enough players for all their coalitions.

    Raises:
      ValueError: there are more.
    """
    if count > MOST_EXACT:
        raise ValueError(
            f"{method} of {count} features has 2^{count} coalitions; up to {MOST_EXACT} features it is exact: give "
            "samples= and key=, or group them with features="
        )


def all_masks(count: int) -> np.ndarray:
    """List all coalitions: bool (2^M, M)."""
    return (np.arange(2**count)[:, None] >> np.arange(count)) % 2 == 1


def exact_values(scores: np.ndarray) -> np.ndarray:
    """Compute Shapley values (M,) from the scores of all coalitions, (2^M,), in the order of `all_masks`.

    Differences are taken first: what changes nothing gets 0, without rounding.
    """
    count = scores.size.bit_length() - 1
    table = scores.reshape((2,) * count)  # the last axis is feature 0
    sizes = all_masks(count - 1).sum(axis=1)
    weights = 1 / (count * np.array([comb(count - 1, int(size)) for size in sizes], np.float64))
    return np.array([weights @ np.diff(table, axis=count - 1 - feature).ravel() for feature in range(count)])


def mean_contributions(drawn: np.ndarray, found: Payoffs) -> tuple[np.ndarray, np.ndarray]:
    """Average what each feature adds when it joins, over orders in pairs.

    Args:
      drawn: orders (S, M).
      found: scores of what has joined, as of `prefixes`.

    Returns:
      Means and standard errors, (n, k, M).
    """
    samples, count = drawn.shape
    places = np.argsort(drawn, axis=1)  # when a feature joins

    def of_one(row, none, whole):
        ends = [np.full((samples, 1), end) for end in (none, whole)]
        joined = np.concatenate([ends[0], row.reshape(samples, count - 1), ends[1]], axis=1)
        return mean_and_error(np.take_along_axis(np.diff(joined, axis=1), places, axis=1))

    # One example after the other: of all at once, the orders would fill the memory.
    rows = [[of_one(*each) for each in zip(*of_k, strict=True)] for of_k in found.rows()]
    means, errors = np.moveaxis(np.array(rows), 2, 0)
    return means, errors
