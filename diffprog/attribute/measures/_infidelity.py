"""Infidelity: how far credit is from what the score does when the input is perturbed."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from diffprog._util import draws
from diffprog._util.numbers import check_count, check_positive
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.baseline import Baseline
from diffprog.attribute._core.players import Features
from diffprog.attribute._core.question import is_float
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._core.sweep import scores_at, scores_of
from diffprog.attribute.measures._credit import ask, check_many_scores, credit_leaves
from diffprog.attribute.measures._curves import POSITIONS
from diffprog.attribute.measures._measured import Measured, measured
from diffprog.attribute.measures._subsets import DRAWN_AT_ONCE, losses_without, random_sets, size_of

KINDS = ("noise", "removal")


@answers_names(MEANT)
@own_promotion()
def infidelity(
    model: Callable[..., Any],
    inputs: Any,
    attribution: Any,
    score: Any = None,
    *,
    key: Any,
    samples: int = 200,
    perturbation: str = "noise",
    noise: float = 0.1,
    is_absolute: bool = False,
    share: float = 0.5,
    baseline: Baseline = None,
    features: Features = POSITIONS,
    is_scaled: bool = False,
    at: Any = None,
    chunk: int | None = None,
    progress: str | None = None,
) -> Measured:
    """Average the squared error of what credit says that a perturbation does to the score: 0 is best.

    It depends on what credit is per unit of. With "noise" N, credit is per unit of the input, as a gradient is: it says
    that the score falls by the sum of credit x N when N is taken from the input. With "removal", credit is in units of
    the score, as that of integrated gradients or Shapley values: it says that the score falls by the sum of the credit
    of the features that are replaced by the baseline. `is_scaled` makes both comparable.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      attribution: an `Attribution` of them, or its values.
      score: what is explained.
      key: a JAX random key, or a seed; perturbations are the same for all examples, relative to their ranges.
      samples: number of perturbations, 2 or more.
      perturbation: "noise", normal, or "removal" of random features.
      noise: standard deviation of the noise, as a part of the range of each example.
      is_absolute: whether `noise` is in units of the inputs instead.
      share: size of each set that is removed, as a part of the features.
      baseline: what takes the place of what is removed; zeros by default.
      features: what is removed together; positions with all their channels by default.
      is_scaled: whether credit is multiplied by the number that makes the error least, one for each example: then only
        its direction counts.
      at: selectors of the values that have the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      `Measured`: in squared units of the score, with its standard error.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Yeh et al., "On the (in)fidelity and sensitivity of explanations", 2019, definition 2.1. Their code scales.
    """
    if perturbation not in KINDS:
        raise ValueError(f"perturbation must be one of {', '.join(map(repr, KINDS))}; found {perturbation!r}")
    samples, random = check_count(samples, "samples", 2), random_key(key)
    asked = ask(model, inputs, attribution, score, features, at, chunk)
    question, players = asked.question, asked.players
    if perturbation == "removal":
        gone = random_sets(random, [size_of(share, players.count)] * samples, players.count)
        said = np.stack([gone @ credit for credit in asked.credit])
        fallen = losses_without(question, players, gone, baseline, progress)
    else:
        leaves = credit_leaves(question, attribution, [point.shape for point in question.points])
        said, fallen = _under_noise(question, leaves, random, samples, noise, is_absolute, progress)
    if is_scaled:
        said = said * _best_factor(said, fallen)[:, None]
    squares = (said - fallen) ** 2
    means, errors = (np.array([f(row) for row in squares]) for f in (np.mean, lambda row: row.std(ddof=1)))
    return measured("infidelity", means, question.count, samples + 1, error=errors / np.sqrt(samples))


def _best_factor(said: np.ndarray, fallen: np.ndarray) -> np.ndarray:
    """Find the factor of least squares of each example; 1 where nothing is said."""
    products = np.array([a @ b for a, b in zip(said, fallen, strict=True)])
    squares = np.array([a @ a for a in said])
    return np.where(squares > 0, products / np.where(squares > 0, squares, 1), 1)


def _under_noise(question, leaves, key, samples, noise, is_absolute, progress):
    """Say for each draw of noise what credit says of it and by how much the score falls: two float64 (n, samples).

    The noise is drawn once for both: two programs may round it differently.
    """
    if not all(is_float(point) for point in question.points):
        raise ValueError('noise needs inputs of floats: perturb integers by perturbation="removal"')
    noise = float(check_positive(noise, "noise"))
    deviations = [_deviations(np.asarray(point), noise, is_absolute) for point in question.points]
    examples = (question.points, [jnp.asarray(each) for each in deviations])
    shapes = tuple(leaf.shape[1:] for leaf in leaves)
    said, scores = [], []
    with tqdm(total=samples, desc=progress, disable=progress is None, unit="sample", leave=False) as bar:
        for first in range(0, samples, DRAWN_AT_ONCE):
            drawn = _drawn(key, np.arange(first, first + DRAWN_AT_ONCE), shapes)
            count = min(DRAWN_AT_ONCE, samples - first)
            scores.append(scores_at(question, count, _less_noise, examples, drawn))
            said.append(_said(leaves, deviations, drawn, count))
            bar.update(count)
    found = np.concatenate(scores, axis=1).astype(np.float64)
    check_many_scores(question, found, "the inputs with noise")
    whole = np.asarray(scores_of(question, question.points), np.float64)
    return np.concatenate(said, axis=1), whole[:, None] - found


def _deviations(points: np.ndarray, noise: float, is_absolute: bool) -> np.ndarray:
    rows = points.reshape(len(points), -1)
    spread = np.ones(len(rows)) if is_absolute else rows.max(axis=1) - rows.min(axis=1)
    return np.asarray(noise * spread, points.dtype)


@partial(jax.jit, static_argnums=2)
def _drawn(key: jax.Array, numbers: jax.Array, shapes: Sequence[tuple[int, ...]]) -> list[jax.Array]:
    """Draw the noise of samples, of deviation 1."""

    def draw(number):
        keys = jax.random.split(jax.random.fold_in(key, number), len(shapes))
        return [draws.normal(key, shape) for shape, key in zip(shapes, keys, strict=True)]

    return jax.vmap(draw)(numbers)


def _less_noise(example: Any, drawn: list[jax.Array], sample: jax.Array) -> tuple[Any, None]:
    points, deviations = example
    rows = zip(points, deviations, drawn, strict=True)
    return [leaf - deviation * noise[sample].astype(leaf.dtype) for leaf, deviation, noise in rows], None


def _said(leaves: list[np.ndarray], deviations: list[np.ndarray], drawn: list[jax.Array], count: int) -> np.ndarray:
    """Multiply credit by the noise, in double precision: (n, samples)."""
    found = np.zeros((len(leaves[0]), count))
    for noise, leaf, deviation in zip(drawn, leaves, deviations, strict=True):
        rows = np.asarray(noise, np.float64)[:count].reshape(count, -1)
        for example, values in enumerate(leaf):
            found[example] += float(deviation[example]) * (rows @ values.ravel())
    return found
