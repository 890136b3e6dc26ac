"""Lists and masks: one flag per entry of a list."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any


def select(values: Iterable, mask: Iterable[bool]) -> list:
    """Select the values whose flag is set."""
    return [x for x, flag in zip(values, mask, strict=True) if flag]


def expand(values: Iterable, mask: Iterable[bool]) -> list[Any]:
    """Undo `select`: take the next value where the flag is set, and None elsewhere."""
    values = iter(values)
    return [next(values) if flag else None for flag in mask]


def split_list(values: Iterable, sizes: Sequence[int]) -> list[list]:
    """Split off lists of these sizes; the last of the lists returned is the rest."""
    values = list(values)
    ends = [0, *itertools.accumulate(sizes)]
    return [values[start:end] for start, end in itertools.pairwise([*ends, None])]
