"""KernelSHAP: Shapley values as the weighted least-squares fit of an additive game."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import jax
import numpy as np

from diffprog._util import draws
from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._core.baseline import Baseline, Data
from diffprog.attribute._core.players import Features
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._perturbation.coalitions import credit, game, payoffs
from diffprog.attribute._perturbation.orders import ranked
from diffprog.graph import Selector

LEAST_PER_FEATURE = 4  # samples that a message asks for
ROUNDING = 1e-9


@answers_names(MEANT)
@own_promotion()
def kernel_shap(
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
    """Fit an additive game to scores of coalitions, weighted so that the fit's values are Shapley's.

    Where `samples` reach for all 2^M - 2 coalitions, these are evaluated, and the values are the exact Shapley values.
    Else the smallest and largest coalitions are taken whole while `samples` reach for them, and the rest is drawn, each
    coalition with its complement. That the values add up to the score minus the baseline's is a constraint of the fit
    and always met. Draws are the same for every example.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      features: the players, see `diffprog.attribute.features`; each element by default.
      baseline: what takes the place of missing features; a number, an array, a function, or a data set of m rows over
        which scores are averaged, `baselines.data(rows)`; zeros by default.
      samples: coalitions beside none and all; 2 M + 2048 by default.
      key: a JAX random key, or a seed; not needed where all coalitions are evaluated.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution`: a feature's credit is divided over its elements; `per_feature` has it whole. Where coalitions
      are drawn, with standard errors (the jackknife over pairs), infinite where a single pair decides.

    Raises:
      ValueError: something does not fit, or `samples` are too few to tell the features apart.

    References:
      Lundberg & Lee, "A unified approach to interpreting model predictions", 2017. Covert & Lee, "Improving
      KernelSHAP", 2021 (pairs, and why the values are consistent). Bell & McCaffrey, "Bias reduction in standard errors
      for linear regression with multi-stage samples", 2002 (the jackknife of least squares).
    """
    asked = game("kernel_shap", model, inputs, score, features, baseline, at, chunk, progress)
    count = asked.players.count
    samples = 2 * count + 2048 if samples is None else check_count(samples, "samples")
    design = _design(count, samples, key)
    found = payoffs(asked, design.masks)
    fitted = [[_fit(design, *of_one) for of_one in zip(*rows, strict=True)] for rows in found.rows()]
    values = np.array([[values for values, _ in row] for row in fitted])
    error = np.array([[error for _, error in row] for row in fitted]) if design.num_pairs else None
    return credit(
        asked,
        values,
        error,
        score=found.whole,
        baseline_score=found.none,
        divided=True,
        is_complete=True,
        evaluations=found.evaluations,
        steps=len(design.masks),
    )


@dataclass(frozen=True)
class _Design:
    """Coalitions and their weights; the last 2 `num_pairs` are drawn, each followed by its complement."""

    masks: np.ndarray
    weights: np.ndarray
    num_pairs: int


def _design(count: int, samples: int, key: Any) -> _Design:
    """Choose coalitions: whole sizes from both ends while the samples reach for them, then random pairs."""
    if count == 1:
        return _Design(np.zeros((0, 1), bool), np.zeros(0), 0)
    sizes = np.arange(1, count // 2 + 1)  # each stands for itself and count - itself
    mass = np.where(2 * sizes == count, 1.0, 2.0) / (sizes * (count - sizes))
    mass /= mass.sum()
    masks, weights, left, number = [], [], samples, 0
    while number < len(sizes):
        size = int(sizes[number])
        num = comb(count, size) * (1 if 2 * size == count else 2)
        rest = mass[number:].sum()
        if num > left or (num > left * mass[number] / rest * (1 + 1e-9)):
            break
        masks.append(_of_size(count, size))
        weights.append(np.full(num, mass[number] / num))
        left, number = left - num, number + 1
    if number == len(sizes):
        return _Design(np.concatenate(masks), np.concatenate(weights), 0)
    num_pairs = left // 2
    if num_pairs + sum(map(len, masks)) // 2 < count:
        raise _too_few(samples, count)
    if key is None:
        raise ValueError(
            f"samples={samples} are not all {2**count - 2} coalitions, so that some are drawn: give key=, as "
            "jax.random.key(0), or a seed"
        )
    masks.append(_drawn(random_key(key), num_pairs, count, sizes[number:], mass[number:]))
    weights.append(np.full(2 * num_pairs, mass[number:].sum() / (2 * num_pairs)))
    return _Design(np.concatenate(masks), np.concatenate(weights), num_pairs)


def _of_size(count, size):
    """List all coalitions of a size, and their complements if these have another."""
    chosen = np.array(list(combinations(range(count), size)))
    masks = np.zeros((len(chosen), count), bool)
    masks[np.arange(len(chosen))[:, None], chosen] = True
    return masks if 2 * size == count else np.concatenate([masks, ~masks])


def _drawn(key, num_pairs, count, sizes, mass):
    """Draw coalitions with the probability of their size, each followed by its complement."""
    first, second = jax.random.split(key)
    chances = np.asarray(draws.uniform(first, (num_pairs,)), np.float64)
    size = sizes[np.minimum(np.searchsorted(np.cumsum(mass / mass.sum()), chances, side="right"), len(sizes) - 1)]
    places = np.argsort(ranked(second, (num_pairs, count)), axis=1)
    masks = places < size[:, None]
    return np.stack([masks, ~masks], axis=1).reshape(2 * num_pairs, count)


def _fit(design: _Design, scores: np.ndarray, none: float, whole: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit the values of one example under the constraint of their sum, with the jackknife's standard errors."""
    count = design.masks.shape[1]
    total = whole - none
    if count == 1:
        return np.array([total]), np.zeros(1)
    # The last feature gets what is left of the total, so that the sum is no matter of fitting.
    present = design.masks.astype(np.float64)
    regressors = present[:, :-1] - present[:, -1:]
    response = scores - none - present[:, -1] * total
    root = np.sqrt(design.weights)
    scaled, target = root[:, None] * regressors, root * response
    matrix = scaled.T @ scaled
    if np.linalg.matrix_rank(matrix) < count - 1:
        raise _too_few(len(design.masks), count)
    inverse = np.linalg.inv(matrix)
    fit = inverse @ (scaled.T @ target)
    # To the last feature, and back to the sum: each value is linear in the others.
    extend = np.concatenate([np.eye(count - 1), -np.ones((1, count - 1))])
    values = np.append(fit, total - fit.sum())
    if not design.num_pairs:
        return values, np.zeros(count)
    rows = scaled[-2 * design.num_pairs :].reshape(design.num_pairs, 2, count - 1)
    residuals = (target - scaled @ fit)[-2 * design.num_pairs :].reshape(design.num_pairs, 2)
    # Values without one pair: by how much they move says how far a sum over pairs may be off.
    leverage = rows @ inverse @ np.swapaxes(rows, 1, 2)
    # Where there is no fit without a pair, nothing is known of the error of what it alone decides.
    is_needed = np.linalg.eigvalsh(leverage).max(axis=1) > 1 - ROUNDING
    leverage[is_needed] = 0
    without = np.linalg.solve(np.eye(2) - leverage, residuals[..., None])[..., 0]
    moves = np.einsum("prj,pr->pj", rows, without) @ inverse @ extend.T
    moves -= moves.mean(axis=0)
    error = np.sqrt((moves**2).sum(axis=0) * (design.num_pairs - 1) / design.num_pairs)
    decided = np.abs(rows[is_needed] @ inverse @ extend.T)
    is_unknown = (decided > ROUNDING * np.abs(extend @ inverse @ extend.T).max()).any(axis=(0, 1))
    return values, np.where(is_unknown, np.inf, error)


def _too_few(samples, count):
    return ValueError(
        f"samples={samples} are too few to tell {count} features apart: a coalition and its complement say the same of "
        f"them; give {max(LEAST_PER_FEATURE * count, 2 * samples)} or more, or leave it out for {2 * count + 2048}"
    )
