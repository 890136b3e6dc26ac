"""Feeding a function that takes batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np


def in_batches(function: Callable[[np.ndarray], Any], rows: np.ndarray, batch_size: int, axis: int = 0) -> Any:
    """Call a function on batches of one size and join the results.

    A last, shorter batch is filled up with copies of its last row, so that a compiled function sees one shape. Their
    results are dropped.

    Args:
      function: Maps rows (b, ...) to an array or a pytree of arrays with b entries along `axis`.
      rows: Array (n, ...), n > 0. If n is at most `batch_size`, the function is called once, with n rows.
      batch_size: Rows in a batch.
      axis: Axis of the results along which the rows lie.

    Returns:
      The function's results for all n rows.
    """
    if len(rows) <= batch_size:
        return function(rows)
    filled = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % batch_size, 0)])
    results = [function(filled[first : first + batch_size]) for first in range(0, len(filled), batch_size)]
    join = lambda *parts: np.take(np.concatenate(parts, axis), np.arange(len(rows)), axis)
    return jax.tree.map(join, *results)


def by_shape(
    function: Callable[[np.ndarray], Any], arrays: Sequence[np.ndarray], batch_size: int
) -> Iterator[tuple[int, Any]]:
    """Call a function on batches of arrays of one shape, for arrays of several shapes.

    Args:
      function: Maps a stack (b, ...) of arrays of one shape to b results.
      arrays: Arrays of any shapes.
      batch_size: Arrays in a batch, at most.

    Yields:
      (index of an array, its result), shape by shape.
    """
    indices: dict[tuple, list[int]] = {}
    for index, array in enumerate(arrays):
        indices.setdefault(np.shape(array), []).append(index)
    for same_shape in indices.values():
        for first in range(0, len(same_shape), batch_size):
            batch = same_shape[first : first + batch_size]
            yield from zip(batch, function(np.stack([arrays[index] for index in batch])), strict=True)
