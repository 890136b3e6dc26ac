"""Features as people give them: which elements of an example are taken away together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from diffprog.attribute._core.question import Question, floats

Features = Any
"""Integers 0, 1, ..., one for each element of an example; elements with the same one are one feature.

None makes each element a feature. An array has the shape of one example or of its first axes: of (height, width) for
images (height, width, channels), whose channels then go together; axes of length 1 stand for any length. With an axis
of examples in front, and all others, each example has features of its own, as many as the others. A function of the
shape of one example, as those of `diffprog.attribute.features`, makes such an array. For several inputs, a pytree of
these: the same number in two arrays is one feature; what a function makes is numbered behind all others; None leaves an
input as it is. With `at=`, a dict from selector to these.
"""


@dataclass(frozen=True)
class Players:
    """Features of a question's points.

    Attributes:
      groups: for each point, integers (...) of its rank, or (n, ...) if examples have their own.
      count: how many features there are, M.
      are_own: whether each example has its own.
    """

    groups: list[np.ndarray]
    count: int
    are_own: bool

    def of(self, example: int) -> list[np.ndarray]:
        """Take the groups of one example."""
        return [group[example] for group in self.groups] if self.are_own else self.groups


def credited(features: Features) -> Callable[[Any], Sequence[bool]]:
    """Make the function that tells `pose` which leaves get credit: of floats, or all if there are none."""
    return partial(_credited, features)


def _credited(features, inputs):
    entries = _entries(features, inputs)
    if entries is not None:
        return [entry is not None for entry in entries]
    flags = floats(inputs)
    return flags if any(flags) else [True] * len(flags)


def _entries(features, inputs):
    """Take a pytree of features apart, one entry for each leaf; None if it is one for all."""
    tree: Any = jax.tree.structure(inputs)
    if features is None or callable(features) or hasattr(features, "shape") or jax.tree_util.treedef_is_leaf(tree):
        return None
    try:
        return tree.flatten_up_to(features)
    except ValueError as error:
        raise ValueError(f"features must have the structure of the inputs, {tree}; found another: {error}") from None


def players_of(question: Question, features: Features) -> Players:
    """Read the features of a question's points.

    Args:
      question: whose points.
      features: see `Features`.

    Raises:
      ValueError: they are no integers, have another shape, or numbers are missing.
    """
    points = jax.tree.leaves(question.points)
    given = _for_each(question, features, len(points))
    if len(given) != len(points):
        raise ValueError(
            f"features must have an entry for each of {len(points)} inputs with credit; found {len(given)}"
        )
    arrays: list[Any] = [None] * len(points)
    are_own, first = False, 0
    for number, (entry, point) in enumerate(zip(given, points, strict=True)):
        if entry is not None and not callable(entry):
            arrays[number], is_own = _checked(entry, point.shape)
            are_own, first = are_own or is_own, max(first, int(arrays[number].max()) + 1)
    for number, (entry, point) in enumerate(zip(given, points, strict=True)):
        if arrays[number] is None:
            shape = point.shape[1:]
            made = np.arange(int(np.prod(shape))).reshape(shape) if entry is None else _made(entry, shape)
            array, is_own = _checked(made, point.shape)
            arrays[number], are_own = array + first, are_own or is_own
            first += int(array.max()) + 1
    if are_own:
        whole = lambda array, rank: (
            array if array.ndim == rank else np.broadcast_to(array, (question.count, *array.shape))
        )
        arrays = [whole(array, point.ndim) for array, point in zip(arrays, points, strict=True)]
    _check_numbers(arrays, first, are_own, question.count)
    return Players([array.astype(np.int32) for array in arrays], first, are_own)


def _for_each(question, features, count):
    if question.moved is not None and isinstance(features, Mapping):
        unknown = [selector for selector in question.moved.selectors if selector not in features]
        if unknown or len(features) != len(question.moved.selectors):
            raise ValueError(
                f"features must have an entry for each of at, {list(question.moved.selectors)}; found {list(features)}"
            )
        return question.moved.in_order(features)
    entries = None if question.moved is not None else _entries(features, question.context[0])
    if entries is not None:
        return [entry for entry in entries if entry is not None]
    if features is not None and not callable(features) and count > 1:
        raise ValueError(
            f"features must be a pytree with an array for each of {count} inputs, like these; found one for all"
        )
    return [features] * count


def _made(make, shape):
    """Call a function of the shape, and say what is wrong if it is none."""
    try:
        made = make(shape)
    except TypeError as error:
        raise ValueError(f"{_no_maker(make)}: {error}") from error
    if callable(made):
        raise ValueError(f"{_no_maker(make)}: it returns another function")
    return made


def _no_maker(make):
    name = getattr(make, "__name__", "it")
    return f"features must be integers or a function of the shape of one example, as features.{name}(...) returns"


def _checked(entry, shape):
    """Require integers that fit points of a shape (n, ...): the array with the rank of an example, or with its rows."""
    array = np.asarray(entry)
    if array.dtype.kind not in "iu" or not array.size:
        raise ValueError(
            f"features must be integers, one for each element of an example; found {array.dtype} of shape {array.shape}"
        )
    if array.min() < 0:
        raise ValueError(f"features are numbered 0, 1, ...; found {array.min()}")
    fits = lambda found, wanted: all(a in (1, b) for a, b in zip(found, wanted, strict=True))
    example = shape[1:]
    if array.ndim == len(shape) and fits(array.shape[1:], example) and array.shape[0] == shape[0]:
        return array, True
    if array.ndim <= len(example):
        filled = array.reshape(array.shape + (1,) * (len(example) - array.ndim))
        if fits(filled.shape, example):
            return filled, False
    raise ValueError(
        f"features must have the shape of one example, {example}, or of its first axes; found {array.shape}. Axes of "
        "length 1 stand for any length; with an axis of examples in front, each example has its own"
    )


def _check_numbers(arrays, count, are_own, num_examples):
    present = np.zeros((num_examples if are_own else 1, count), bool)
    for row in range(len(present)):
        for array in arrays:
            present[row, np.unique(array[row] if are_own else array)] = True
    if not present.all():
        row = int((~present.all(axis=1)).argmax())
        missing = int((~present[row]).argmax())
        of = f" of example {row}" if are_own else ""
        raise ValueError(
            f"features{of} are numbered 0 to {count - 1}, but {missing} is missing: number them without gaps"
            + (", and give each example as many" if are_own else "")
        )
