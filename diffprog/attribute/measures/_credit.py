"""The credit that a measure is given, and the question that it asks: credit of each feature, and their order."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from diffprog._jax_internals import Tracer
from diffprog._util.random_keys import random_key
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._core.finish import check_scores
from diffprog.attribute._core.players import Features, Players, credited, players_of
from diffprog.attribute._core.question import Question, pose
from diffprog.images import resize


class Asked(NamedTuple):
    """What a measure works with.

    Attributes:
      question: the model and its score.
      players: the features of its points.
      credit: float64 (n, features), the sum over the elements of each feature.
    """

    question: Question
    players: Players
    credit: np.ndarray


def ask(
    model: Callable[..., Any], inputs: Any, attribution: Any, score: Any, features: Features, at: Any, chunk: int | None
) -> Asked:
    """Pose the question of a measure, and add credit up by features.

    Args:
      model: see `diffprog.attribute`.
      inputs: examples (n, ...).
      attribution: an `Attribution` of one score, or its values.
      score: what is explained.
      features: groups of elements that are changed together.
      at: places inside the model that have the credit.
      chunk: rows of one run.

    Raises:
      ValueError: something does not fit.
    """
    question = pose(model, inputs, score, at=at, chunk=chunk, credited=credited(features))
    if question.num_scores is not None:
        raise ValueError("a measure is about one score; found a list: measure one after the other")
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((question.points, question.context))):
        raise ValueError("measures compute outside of JAX: call them outside of jit, vmap and grad")
    players = players_of(question, features)
    shapes = [point.shape for point in question.points]
    return Asked(question, players, credit_of_features(players, credit_leaves(question, attribution, shapes)))


def credit_leaves(question: Question, attribution: Any, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Bring values to one array for each point of a question, of its shape.

    Raises:
      ValueError: they are of other inputs, of several scores, or not finite.
    """
    values = values_of(attribution)
    if question.moved is not None and isinstance(values, Mapping):
        leaves = question.moved.in_order(values)
    else:
        leaves = jax.tree.leaves(values)
    if len(leaves) != len(shapes):
        raise ValueError(f"the attribution must have values for {len(shapes)} arrays; found {len(leaves)}")
    return [_fitted(leaf, shape) for leaf, shape in zip(leaves, shapes, strict=True)]


def values_of(attribution: Any) -> Any:
    """Take the values of an attribution of one score, or what is given in its place.

    Raises:
      ValueError: it is of several scores.
    """
    if not isinstance(attribution, Attribution):
        return attribution
    if np.ndim(attribution.score) != 1:
        raise ValueError(
            f"a measure is about one score; found an attribution of {len(attribution.score)}: attribute one at a time"
        )
    return attribution.values


def _fitted(leaf: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Bring values to the shape of what they are credit of: a map without channels is divided among them."""
    values = finite(np.asarray(leaf, np.float64))
    if values.shape == shape:
        return values
    if len(shape) == 4 and values.ndim in (3, 4) and len(values) == shape[0]:
        maps = values.sum(axis=-1) if values.ndim == 4 else values
        return np.repeat(enlarged(maps, *shape[1:3])[..., None], shape[3], axis=-1) / shape[3]
    if values.shape == shape[:-1]:
        return np.repeat(values[..., None], shape[-1], axis=-1) / shape[-1]
    raise ValueError(
        f"the attribution must have the shape of what is explained, {shape}, or leave out the last axis; found "
        f"{values.shape}"
    )


def finite(values: np.ndarray) -> np.ndarray:
    """Require finite credit."""
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        raise ValueError(
            f"the attribution of example {int(bad.argmax())} has NaN or infinity ({int(bad.sum())} of {len(values)} "
            "have): measure the others"
        )
    return values


def places_of(leaves: list[np.ndarray]) -> list[np.ndarray]:
    """Bring credit to one number for each place: channels of pictures (n, height, width, channels) are added up."""
    return [leaf.sum(axis=-1) if leaf.ndim == 4 else leaf for leaf in leaves]


def enlarged(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bring maps (n, h, w) to another size, linearly between places."""
    if maps.shape[1:] == (height, width):
        return maps
    linear = Image.Resampling.BILINEAR
    return np.stack([resize(each, height, width, linear, to_8_bits=False).astype(np.float64) for each in maps])


def credit_of_features(players: Players, leaves: list[np.ndarray]) -> np.ndarray:
    """Add up values (n, ...) by feature, one example at a time: (n, features)."""
    found = np.zeros((len(leaves[0]), players.count))
    for example, total in enumerate(found):
        for leaf, group in zip(leaves, players.of(example), strict=True):
            where = np.broadcast_to(group, leaf.shape[1:]).ravel()
            total += np.bincount(where, leaf[example].ravel(), players.count)
    return found


def check_many_scores(question: Question, rows: np.ndarray, of: str) -> None:
    """Require scores (n, m) of changed inputs that are finite.

    Raises:
      ValueError: one is not.
    """
    bad = ~np.isfinite(rows)
    check_scores(question, np.where(bad.any(axis=1), rows[np.arange(len(rows)), bad.argmax(axis=1)], 0), of)


def ranks(credit: np.ndarray, key: Any) -> np.ndarray:
    """Rank features (n, M) from the largest credit, 0, to the smallest; ties in one random order for all examples.

    Ties matter: a map that is 0 in many places would be taken away line by line.
    """
    count = credit.shape[1]
    ties = np.asarray(jax.random.permutation(random_key(key), count))
    found = np.empty(credit.shape, np.int32)
    for row, values in zip(found, credit, strict=True):
        row[np.lexsort((ties, -values))] = np.arange(count)
    return found


def per_element(players: Players, by_feature: np.ndarray) -> list[np.ndarray]:
    """Give each element of each point its feature's number: arrays (n, ...) of numbers (n, M)."""
    rows = range(len(by_feature))
    return [np.stack([by_feature[row][players.of(row)[leaf]] for row in rows]) for leaf in range(len(players.groups))]
