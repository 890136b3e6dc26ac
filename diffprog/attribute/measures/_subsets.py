"""Random sets of features: does the sum of their credit say how much the score falls without them?"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util import draws
from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.baseline import Baseline, baseline_points
from diffprog.attribute._core.players import Features, Players
from diffprog.attribute._core.question import Question
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._core.sweep import scores_at, scores_of
from diffprog.attribute.measures._correlation import correlation, correlation_error, rank_correlation
from diffprog.attribute.measures._credit import ask, check_many_scores
from diffprog.attribute.measures._curves import POSITIONS
from diffprog.attribute.measures._measured import Measured, measured

DRAWN_AT_ONCE = 64
PARTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@answers_names(MEANT)
@own_promotion()
def mu_fidelity(
    model: Callable[..., Any],
    inputs: Any,
    attribution: Any,
    score: Any = None,
    *,
    key: Any,
    samples: int = 200,
    share: float = 0.2,
    is_ranked: bool = False,
    baseline: Baseline = None,
    features: Features = POSITIONS,
    at: Any = None,
    chunk: int | None = None,
    progress: str | None = None,
) -> Measured:
    """Correlate the credit of random sets of features with what the score loses without them: 1 is best.

    Sets of single pixels all have nearly the same sum. Of pictures, give larger features, as `features.grid(9)`.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      attribution: an `Attribution` of them, or its values.
      score: what is explained.
      key: a JAX random key, or a seed; the sets are the same for all examples.
      samples: number of sets, 4 or more.
      share: size of each set, as a part of the features.
      is_ranked: whether ranks are correlated (Spearman) and not the numbers (Pearson, as in the paper).
      baseline: what takes the place of what is gone; zeros by default.
      features: what goes together; positions with all their channels by default.
      at: selectors of the values that have the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      `Measured`: a correlation with its standard error, (1 - r^2) / sqrt(samples - 3). NaN where all sets have the
      same credit or the same loss.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Bhatt et al., "Evaluating and aggregating feature-based model explanations", 2020, equation 4 (faithfulness).
    """
    samples = check_count(samples, "samples", 4)
    asked = ask(model, inputs, attribution, score, features, at, chunk)
    size = size_of(share, asked.players.count)
    gone = random_sets(random_key(key), [size] * samples, asked.players.count)
    losses = losses_without(asked.question, asked.players, gone, baseline, progress)
    correlate = rank_correlation if is_ranked else correlation
    credits = [gone @ credit for credit in asked.credit]
    found = np.array([correlate(a, b) for a, b in zip(credits, losses, strict=True)])
    error = correlation_error(found, samples)
    return measured("mu_fidelity", found, asked.question.count, samples + 1, error=error)


@answers_names(MEANT)
@own_promotion()
def sensitivity_n(
    model: Callable[..., Any],
    inputs: Any,
    attribution: Any,
    score: Any = None,
    *,
    key: Any,
    samples: int = 100,
    shares: Sequence[float] = PARTS,
    baseline: Baseline = None,
    features: Features = POSITIONS,
    at: Any = None,
    chunk: int | None = None,
    progress: str | None = None,
) -> Measured:
    """Correlate the credit of random sets of n features with what the score loses without them, for several n.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      attribution: an `Attribution` of them, or its values.
      score: what is explained.
      key: a JAX random key, or a seed; the sets are the same for all examples.
      samples: number of sets of each size, 4 or more.
      shares: sizes of the sets, as parts of the features, each at least one feature and not all.
      baseline: what takes the place of what is gone; zeros by default.
      features: what goes together; positions with all their channels by default.
      at: selectors of the values that have the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      `Measured`: the mean over the sizes of Pearson's correlation, its standard error, and the correlations as a curve
      over the number of features. NaN where all sets of a size have the same credit or the same loss.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Ancona et al., "Towards better understanding of gradient-based attribution methods for deep neural networks",
      2018, section 4.
    """
    samples = check_count(samples, "samples", 4)
    asked = ask(model, inputs, attribution, score, features, at, chunk)
    count = asked.players.count
    sizes = list(dict.fromkeys(size_of(share, count) for share in np.ravel(shares)))
    gone = random_sets(random_key(key), np.repeat(sizes, samples), count)
    losses = losses_without(asked.question, asked.players, gone, baseline, progress)
    curves = []
    for credit, loss in zip(asked.credit, losses, strict=True):
        pairs = zip((gone @ credit).reshape(len(sizes), samples), loss.reshape(len(sizes), samples), strict=True)
        curves.append([correlation(a, b) for a, b in pairs])
    curve = np.array(curves)
    errors = correlation_error(curve, samples)
    error = np.sqrt((errors**2).sum(axis=1)) / len(sizes)
    total = samples * len(sizes) + 1
    return measured(
        "sensitivity_n", curve.mean(axis=1), asked.question.count, total, error=error, curve=curve, at=np.array(sizes)
    )


def size_of(share: float, count: int) -> int:
    """Read how many features go."""
    is_number = np.ndim(share) == 0 and np.asarray(share).dtype.kind in "iuf"
    size = round(float(share) * count) if is_number and 0 < share < 1 else 0
    if not 0 < size < count:
        raise ValueError(
            f"a set of features must have at least one and not all {count}; found a share of {share!r}: give another"
        )
    return size


def random_sets(key: jax.Array, sizes: Any, count: int) -> np.ndarray:
    """Draw sets of features of given sizes: bool (samples, features)."""
    found = np.zeros((len(sizes), count), bool)
    for number, size in enumerate(sizes):
        if number % DRAWN_AT_ONCE == 0:
            places = np.asarray(_uniform(key, np.arange(number, number + DRAWN_AT_ONCE), count))
        found[number, np.argsort(places[number % DRAWN_AT_ONCE], kind="stable")[:size]] = True
    return found


@partial(jax.jit, static_argnums=2)
def _uniform(key: jax.Array, numbers: jax.Array, count: int) -> jax.Array:
    return jax.vmap(lambda number: draws.uniform(jax.random.fold_in(key, number), (count,)))(numbers)


def losses_without(
    question: Question, players: Players, gone: np.ndarray, baseline: Any, progress: str | None
) -> np.ndarray:
    """Say how much the score falls without each set of features: float64 (n, sets)."""
    own = [jnp.asarray(group) for group in players.groups] if players.are_own else None
    shared = (None if players.are_own else [jnp.asarray(group) for group in players.groups], jnp.asarray(gone))
    examples = (question.points, baseline_points(question, baseline), own)
    without = np.asarray(scores_at(question, len(gone), _without, examples, shared, progress), np.float64)
    check_many_scores(question, without, "the inputs with features taken away")
    whole = np.asarray(scores_of(question, question.points), np.float64)
    return whole[:, None] - without


def _without(example: Any, shared: Any, sample: jax.Array) -> tuple[Any, None]:
    points, background, own = example
    groups, gone = shared
    is_gone = gone[sample]
    rows = zip(groups if own is None else own, points, background, strict=True)
    return [jnp.where(is_gone[group], b, x) for group, x, b in rows], None
