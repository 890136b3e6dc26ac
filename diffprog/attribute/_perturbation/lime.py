"""LIME: a weighted linear fit to the score around an example, in terms of features that are there or not."""

from collections.abc import Callable
from typing import Any

import numpy as np

from diffprog._util import draws
from diffprog._util.numbers import check_count, check_positive
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._core.baseline import Baseline, Data
from diffprog.attribute._core.players import Features
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._perturbation.coalitions import credit, game, payoffs
from diffprog.attribute._perturbation.shapley import MOST_EXACT, all_masks
from diffprog.graph import Selector

PENALTIES = ("ridge", "lasso")
MAX_ROUNDS, TOLERANCE = 10_000, 1e-12  # of coordinate descent; the largest change beside the largest value


@answers_names(MEANT)
@own_promotion()
def lime(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    features: Features = None,
    key: Any = None,
    samples: int = 1000,
    kernel_width: float = 0.25,
    penalty: str = "ridge",
    strength: float = 0.0,
    baseline: Baseline | Data = None,
    at: Selector | list[Selector] | None = None,
    chunk: int | None = None,
    progress: str | None = None,
) -> Attribution:
    """Fit a linear function of which features are present to the score near an example.

    Coalitions z have each feature with a chance of one half, and the weight exp(-(d / kernel_width)^2 / 2) with d = 1 -
    sqrt(share of features present), the cosine distance from the example. With weights that add up to 1, the fit
    minimizes sum w (score - c - z @ b)^2 / 2 and strength * |b|^2 / 2 (ridge) or strength * |b|_1 (lasso), c free.
    Where `samples` reach for all 2^M coalitions of up to 12 features, these are taken, and nothing is drawn. Draws are
    the same for every example.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      features: the regressors, see `diffprog.attribute.features`; each element by default.
      key: a JAX random key, or a seed; not needed where all coalitions are taken.
      samples: coalitions.
      kernel_width: distance at which the weight has fallen to exp(-1/2).
      penalty: "ridge", in closed form, or "lasso", by coordinate descent.
      strength: of the penalty, 0 or more. The reference code's ridge of 1 beside 1000 coalitions is about 0.002.
      baseline: what takes the place of missing features; a number, an array, a function, or a data set of m rows over
        which scores are averaged, `baselines.data(rows)`; zeros by default.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution` of the coefficients b: a feature's credit is divided over its elements; `per_feature` has it
      whole. Of a ridge fit to drawn coalitions, with standard errors of what the draws decide. The gap says by how much
      the fit misses the way from the baseline to the example.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Ribeiro et al., "Why should I trust you? Explaining the predictions of any classifier", 2016. Friedman et al.,
      "Pathwise coordinate optimization", 2007.
    """
    if penalty not in PENALTIES:
        raise ValueError(f"penalty must be one of {', '.join(map(repr, PENALTIES))}; found {penalty!r}")
    if not (np.ndim(strength) == 0 and np.isfinite(strength) and strength >= 0):
        raise ValueError(f"strength must be 0 or more; found {strength!r}")
    samples, width = check_count(samples, "samples", 2), float(check_positive(kernel_width, "kernel_width"))
    asked = game("lime", model, inputs, score, features, baseline, at, chunk, progress)
    count = asked.players.count
    is_whole = count <= MOST_EXACT and samples >= 2**count
    if is_whole:
        masks = all_masks(count)
    elif key is None:
        raise ValueError(f"lime draws {samples} of 2^{count} coalitions: give key=, as jax.random.key(0), or a seed")
    else:
        masks = np.asarray(draws.coin(random_key(key), 0.5, (samples, count)))
    fit = _Fit(masks, width, penalty, float(strength))
    found = payoffs(asked, masks)
    fitted = [[fit(np.ascontiguousarray(row)) for row in rows] for rows in found.coalitions]
    has_error = penalty == "ridge" and not is_whole
    return credit(
        asked,
        np.array([[values for values, _ in row] for row in fitted]),
        np.array([[error for _, error in row] for row in fitted]) if has_error else None,
        score=found.whole,
        baseline_score=found.none,
        divided=True,
        is_complete=True,
        evaluations=found.evaluations,
        steps=len(masks),
    )


class _Fit:
    """Weighted linear regression on coalitions."""

    def __init__(self, masks, width, penalty, strength):
        present = masks.astype(np.float64)
        distances = 1 - np.sqrt(present.mean(axis=1))
        # Beside the largest, so that a narrow kernel leaves some weight.
        exponents = -((distances / width) ** 2) / 2
        weights = np.exp(exponents - exponents.max())
        self.weights = weights / weights.sum()
        self.centered = present - self.weights @ present
        self.scaled = self.weights[:, None] * self.centered
        self.matrix = self.centered.T @ self.scaled
        self.penalty, self.strength = penalty, strength
        rank = np.linalg.matrix_rank(self.matrix)
        if rank < len(self.matrix) and not strength:
            raise ValueError(
                f"the {len(masks)} coalitions that count within kernel_width={width} do not tell {len(self.matrix)} "
                "features apart: give more samples, a wider kernel, fewer features, or a strength above 0"
            )
        if penalty == "ridge":
            self.inverse = np.linalg.inv(self.matrix + strength * np.eye(len(self.matrix)))

    def __call__(self, scores):
        """Find the coefficients and their standard errors, (M,) each."""
        centered = scores - self.weights @ scores
        moment = self.scaled.T @ centered
        if self.penalty == "lasso":
            return lasso(self.matrix, moment, self.strength), None
        values = self.inverse @ moment
        residuals = centered - self.centered @ values
        # By how much one coalition more or less moves the fit (the jackknife to first order; MacKinnon & White 1985).
        leverage = np.einsum("si,ij,sj->s", self.scaled, self.inverse, self.centered) + self.weights
        moves = (self.scaled * (residuals / np.maximum(1 - leverage, np.finfo(float).eps))[:, None]) @ self.inverse
        return values, np.sqrt((moves**2).sum(axis=0))


def lasso(matrix: np.ndarray, moment: np.ndarray, strength: float) -> np.ndarray:
    """Minimize b @ matrix @ b / 2 - b @ moment + strength * |b|_1 by coordinate descent.

    Args:
      matrix: (M, M), positive semidefinite, with a positive diagonal where it is not 0.
      moment: (M,).
      strength: 0 or more.

    Returns:
      The minimizer, (M,).
    """
    values = np.zeros(len(moment))
    slopes = moment.astype(np.float64).copy()  # moment - matrix @ values
    for _ in range(MAX_ROUNDS):
        largest = 0.0
        for index in range(len(values)):
            curvature = matrix[index, index]
            if curvature == 0:
                continue
            pull = slopes[index] + curvature * values[index]
            new = np.sign(pull) * max(abs(pull) - strength, 0) / curvature
            change = new - values[index]
            if change:
                slopes -= change * matrix[:, index]
                values[index] = new
                largest = max(largest, abs(change))
        if largest <= TOLERANCE * np.abs(values).max():
            break
    return values
