"""Permutation: by how much the score falls when a feature comes from another example."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._core.baseline import data_points
from diffprog.attribute._core.players import Features, players_of
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._perturbation.coalitions import (
    Background,
    Game,
    check_payoffs,
    credit,
    pose_without_gradients,
    score_with,
    shared_groups,
    whole_scores,
)
from diffprog.attribute._perturbation.orders import ranked
from diffprog.graph import Selector


@answers_names(MEANT)
@own_promotion()
def feature_permutation(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    key: Any,
    features: Features = None,
    data: Any = None,
    samples: int = 10,
    at: Selector | list[Selector] | None = None,
    chunk: int | None = None,
    progress: str | None = None,
) -> Attribution:
    """Take one feature after the other from another example, and see by how much the score falls.

    Without `data`, the others are those of the batch, shuffled: the result then depends on the batch by definition, as
    that of no other method. With `data`, features come from its rows, the same ones for every example.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      key: a JAX random key, or a seed.
      features: the parts, see `diffprog.attribute.features`; each element by default.
      data: a pytree like the inputs with any number m of rows.
      samples: times that each feature is replaced; of data with fewer rows each row is taken once, and nothing is
        drawn.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution` with standard errors. Each element has the whole credit of its feature. There is no gap: drops of
      the score need not add up.

    Raises:
      ValueError: something does not fit, or there is but one example and no `data`.

    References:
      Breiman, "Random forests", 2001; Fisher et al., "All models are wrong, but many are useful", 2019.
    """
    samples, key = check_count(samples, "samples", 2), random_key(key)
    question = pose_without_gradients("feature_permutation", model, inputs, score, features, at, chunk)
    players = players_of(question, features)
    rows: list[jnp.ndarray]
    if data is None:
        if question.count == 1:
            raise ValueError("feature_permutation shuffles features within a batch; found one example: give data=")
        rows, donors = question.points, _shuffled(key, samples, players.count, question.count)
    else:
        rows, count = data_points(question, data)
        chosen = np.arange(count) if count <= samples else ranked(key, (count,))[:samples]
        donors = np.broadcast_to(chosen[None, :, None], (question.count, len(chosen), players.count))
    is_exact = data is not None and len(rows[0]) <= samples
    asked = Game("feature_permutation", question, players, Background(donors.astype(np.int32), None, 1), progress)
    taken = donors.shape[1]
    found = score_with(asked, taken * players.count, _replaced, rows, shared_groups(asked))
    say = lambda number: f"feature {number % players.count} of another example"
    check_payoffs(asked, found, say)
    whole = whole_scores(asked)
    drops = (whole - found).reshape(*whole.shape[:2], taken, players.count)
    return credit(
        asked,
        drops.mean(axis=2),
        None if is_exact else drops.std(axis=2, ddof=1) / np.sqrt(taken),
        score=whole[..., 0],
        divided=False,
        is_complete=False,
        evaluations=taken * players.count + 1,
        steps=taken,
    )


def _shuffled(key, samples, features, count):
    """Draw permutations of the examples, one for each sample and feature: (n, samples, features)."""
    return np.moveaxis(ranked(key, (samples, features, count)), 2, 0)


def _replaced(example, shared, sample):
    point, donors, own_groups = example
    _, rows, groups = shared
    number, feature = sample // donors.shape[1], sample % donors.shape[1]
    donor = donors[number, feature]
    parts = zip(groups if own_groups is None else own_groups, point, rows, strict=True)
    return [jnp.where(group == feature, leaf[donor], x) for group, x, leaf in parts], None
