"""Concepts: directions in the values of a layer, and whether a score goes along with them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.spelling import answers_names
from diffprog._util.warning import warn
from diffprog.attribute._core.attribution import AttributionWarning
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._gradients.gradient import gradient
from diffprog.graph import Selector
from diffprog.optimize import lbfgs, minimize

KINDS = ("logistic", "ridge", "mean")
FOLDS = 5
NO_BETTER = 0.6  # share of held-out examples on the right side, below which a direction says little


class Concept(NamedTuple):
    """A direction in the values of a layer.

    Attributes:
      vector: of length 1, shaped like the value of one example; from the negatives to the positives.
      accuracy: share of held-out examples on the right side, over 5 parts of the data, both classes weighted alike.
      kind: how it was found.
    """

    vector: jax.Array
    accuracy: float
    kind: str


@own_promotion()
def concept_vector(positives: Any, negatives: Any, *, kind: str = "logistic", regularization: float = 1e-2) -> Concept:
    """Find the direction in a layer in which examples of a concept differ from others.

    Args:
      positives: values of the layer for examples of the concept, (m, ...), as `dp.activations` gives them.
      negatives: values for other examples, (k, ...).
      kind: "logistic" or "ridge" regression, both of standardized values; or "mean", the difference of means.
      regularization: weight of the squared norm in both regressions.

    Returns:
      A `Concept`. One that is hardly better on held-out examples than guessing is warned of.

    Raises:
      ValueError: the shapes do not fit, or there are fewer than two examples of a kind.

    References:
      Kim et al., "Interpretability beyond feature attribution: testing with concept activation vectors", 2018.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}; found {kind!r}")
    positive, negative, shape = _flat(positives, negatives)
    direction, _ = _direction(positive, negative, kind, regularization)
    accuracy = _held_out(positive, negative, kind, regularization)
    if not accuracy > NO_BETTER:
        warn(
            f"concept_vector: its direction puts {accuracy:.0%} of held-out examples on the right side, where half is "
            "guessing: give more examples, or another layer",
            AttributionWarning,
        )
    return Concept((direction / jnp.linalg.norm(direction)).reshape(shape), accuracy, kind)


@own_promotion()
def random_concepts(
    values: Any, count: int, *, key: Any, size: int | None = None, kind: str = "logistic", regularization: float = 1e-2
) -> jax.Array:
    """Find directions between random halves of examples, which mean nothing: what a concept is tested against.

    Args:
      values: of the layer, for any examples, (m, ...).
      count: number of directions.
      key: a JAX random key, or a seed.
      size: examples of either side; by default half of the examples.
      kind: as for `concept_vector`.
      regularization: likewise.

    Returns:
      Directions of length 1, (count, ...).

    Raises:
      ValueError: there are fewer examples than `size` needs.
    """
    values, key = jnp.asarray(values), random_key(key)
    size = len(values) // 2 if size is None else check_count(size, "size", 2)
    if size < 2 or 2 * size > len(values):
        raise ValueError(f"random_concepts draws two sides of {size} examples; found {len(values)} of them: give more")
    found = []
    for i in range(check_count(count, "count")):
        order = jax.random.permutation(jax.random.fold_in(key, i), len(values))
        positive, negative, shape = _flat(values[order[:size]], values[order[size : 2 * size]])
        direction, _ = _direction(positive, negative, kind, regularization)
        found.append((direction / jnp.linalg.norm(direction)).reshape(shape))
    return jnp.stack(found)


@dataclass(frozen=True, eq=False)
class ConceptTest:
    """Whether a score goes along with a concept.

    Attributes:
      share: of examples whose score rises along the concept, the mean over its directions.
      shares: for each direction of the concept.
      random_shares: for each random direction; None without any.
      p_value: of a two-sided t-test that both means are equal, with unequal variances; None with fewer than two random
        directions, or fewer than two of the concept.
      slopes: derivative of each example's score along each direction, (directions, n).
    """

    share: float
    shares: np.ndarray
    random_shares: np.ndarray | None
    p_value: float | None
    slopes: np.ndarray

    def __str__(self) -> str:
        against = "" if self.random_shares is None else f", of random directions {self.random_shares.mean():.3f}"
        p = "" if self.p_value is None else f", p = {self.p_value:.2g}"
        return f"share of examples with a rising score: {self.share:.3f}{against}{p}"


@answers_names(MEANT)
@own_promotion()
def tcav(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    at: Selector,
    vectors: Any,
    random: Any = None,
    chunk: int | None = None,
    engine: str = "diffprog",
) -> ConceptTest:
    """Count the examples whose score rises along a concept, and test it against random directions.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...), usually of one class.
      score: what is explained, one score.
      at: selector of the layer.
      vectors: the concept's direction, or several of them, as from several sets of negatives: a `Concept`, a list of
        these, or an array (..., like the value of one example).
      random: directions to compare with, (r, ...), as `random_concepts` finds them.
      chunk: rows of one run; found by itself.
      engine: gradients by "diffprog" or by "jax".

    Returns:
      A `ConceptTest`.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Kim et al., "Interpretability beyond feature attribution: testing with concept activation vectors", 2018.
      Welch, "The generalization of Student's problem", 1947.
    """
    slopes = gradient(model, inputs, score, at=at, chunk=chunk, engine=engine)
    if slopes.score.ndim != 1 or isinstance(slopes.values[at], list):
        raise ValueError("tcav explains one score at one value: give one class, and a selector of a single value")
    rows = np.asarray(slopes.values[at], np.float64)
    flat = rows.reshape(len(rows), -1)
    along = _rows_of(vectors, rows.shape[1:]) @ flat.T
    shares = (along > 0).mean(axis=1)
    others = None if random is None else (_rows_of(random, rows.shape[1:]) @ flat.T > 0).mean(axis=1)
    if not along.any():
        warn(
            "tcav: no score has a slope along any direction of the concept; share is 0 for that",
            AttributionWarning,
        )
    p_value = None if others is None or min(len(shares), len(others)) < 2 else _welch(shares, others)
    return ConceptTest(float(shares.mean()), shares, others, p_value, along)


# ---------------------------------------------------------------- directions


def _flat(positives, negatives):
    positive, negative = jnp.asarray(positives), jnp.asarray(negatives)
    if positive.shape[1:] != negative.shape[1:] or min(positive.ndim, negative.ndim) < 2:
        raise ValueError(
            "positives and negatives must be values of one layer, (m, ...) and (k, ...); found shapes "
            f"{positive.shape} and {negative.shape}"
        )
    if min(len(positive), len(negative)) < 2:
        raise ValueError(f"a concept takes two examples of each side at least; found {len(positive)}, {len(negative)}")
    shape = positive.shape[1:]
    dtype = jnp.promote_types(jnp.result_type(positive, negative), jnp.float32)
    return *(x.reshape(len(x), -1).astype(dtype) for x in (positive, negative)), shape


def _direction(positive, negative, kind, regularization):
    """Find the direction, and the threshold along it: x is on the positive side if x @ direction > threshold."""
    both = jnp.concatenate([positive, negative])
    if kind == "mean":
        direction = positive.mean(axis=0) - negative.mean(axis=0)
        return direction, (positive.mean(axis=0) + negative.mean(axis=0)) @ direction / 2
    center, deviation = both.mean(axis=0), both.std(axis=0)
    deviation = jnp.where(deviation > 0, deviation, 1)
    standard = (both - center) / deviation
    side = jnp.concatenate([jnp.ones(len(positive)), -jnp.ones(len(negative))]).astype(standard.dtype)
    weight = jnp.where(side > 0, 0.5 / len(positive), 0.5 / len(negative)).astype(standard.dtype)
    weights, bias = (_logistic if kind == "logistic" else _ridge)(standard, side, weight, regularization)
    direction = weights / deviation
    return direction, center @ direction - bias


def _logistic(standard, side, weight, regularization):
    def loss(parameters):
        margin = side * (standard @ parameters["weights"] + parameters["bias"])
        return weight @ jax.nn.softplus(-margin) + regularization / 2 * jnp.sum(parameters["weights"] ** 2)

    start = {"weights": jnp.zeros(standard.shape[1], standard.dtype), "bias": jnp.zeros((), standard.dtype)}
    found = minimize(loss, start, lbfgs()).parameters
    return found["weights"], found["bias"]


def _ridge(standard, side, weight, regularization):
    """Solve in the smaller of the two dimensions: of the examples, by the kernel."""
    root = jnp.sqrt(weight)[:, None]
    center, level = weight @ standard, weight @ side
    rows, target = root * (standard - center), root[:, 0] * (side - level)
    kernel = rows @ rows.T + regularization * jnp.eye(len(rows), dtype=rows.dtype)
    weights = rows.T @ jnp.linalg.solve(kernel, target)
    return weights, level - center @ weights


def _held_out(positive, negative, kind, regularization) -> float:
    """Measure a direction on parts of the data that it was not found with."""
    folds = min(FOLDS, len(positive), len(negative))
    right = np.zeros(2)
    for fold in range(folds):
        held = [np.arange(len(side)) % folds == fold for side in (positive, negative)]
        if min(np.sum(~each) for each in held) < 1:
            continue
        direction, threshold = _direction(positive[~held[0]], negative[~held[1]], kind, regularization)
        for i, (side, sign) in enumerate(((positive, 1), (negative, -1))):
            right[i] += np.sum(np.sign(np.asarray(side[held[i]] @ direction - threshold)) == sign)
    return float((right / (len(positive), len(negative))).mean())


def _rows_of(vectors: Any, shape: Sequence[int]) -> np.ndarray:
    """Make rows of directions (r, elements)."""
    if isinstance(vectors, Concept):
        vectors = vectors.vector
    elif isinstance(vectors, list | tuple):
        vectors = [each.vector if isinstance(each, Concept) else each for each in vectors]
    array = np.asarray(vectors, np.float64)
    if array.shape[max(array.ndim - len(shape), 0) :] != tuple(shape) or array.ndim > len(shape) + 1:
        raise ValueError(f"directions must be like the value of one example, {tuple(shape)}; found {array.shape}")
    return array.reshape(-1, math.prod(shape))


def _welch(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the p-value of equal means."""
    parts = [np.var(x, ddof=1) / len(x) for x in (first, second)]
    spread, difference = sum(parts), abs(first.mean() - second.mean())
    if spread == 0:
        return 1.0 if difference == 0 else 0.0
    t = difference / math.sqrt(spread)
    freedom = spread**2 / sum(part**2 / (len(x) - 1) for part, x in zip(parts, (first, second), strict=True))
    return float(jax.scipy.special.betainc(freedom / 2, 0.5, freedom / (freedom + t * t)))
