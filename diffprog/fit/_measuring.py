"""Loss and metrics over whole sets of examples, in pieces that fit into memory."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._transforms.closures import Lifted, lift
from diffprog.fit._batches import count_examples
from diffprog.fit._losses import Loss
from diffprog.fit._streams import is_stream

PIECE = 1024  # examples that are measured at once


class Measure:
    """Means of functions over data, each batch by its number of examples."""

    def __init__(self, functions: Mapping[str, Loss], data: Any, batch_size: int | None):
        self._functions, self._is_stream = functions, is_stream(data)
        self._data = data if self._is_stream else jax.tree.map(jnp.asarray, data)
        if not self._is_stream:
            self._length = count_examples(data, "validation")
            self._piece = min(self._length, max(batch_size or PIECE, PIECE))

    def __call__(self, parameters: Any, join: Callable, key: jax.Array, state: Any) -> dict[str, float]:
        """Measure all functions at parameters whose trained leaves are given, and put among the others by `join`."""
        totals, num_examples = None, 0
        for batch, count in self._batches():
            function = lift(self._function(join), parameters, batch, key, state)
            sums = jax.device_get(_sum_over(function, parameters, batch, key, state))
            weighted = {name: np.float64(value) * count for name, value in sums.items()}
            totals = weighted if totals is None else {name: totals[name] + value for name, value in weighted.items()}
            num_examples += count
        if totals is None:
            raise ValueError("validation has no batches: give a list or a loader that can be read again, no iterator")
        return {name: float(total / num_examples) for name, total in totals.items()}

    def _function(self, join):
        def measured(parameters, batch, key, state):
            return {name: loss.evaluate(join(parameters), batch, key, state) for name, loss in self._functions.items()}

        return measured

    def _batches(self) -> Iterator[tuple[Any, int]]:
        if self._is_stream:
            for batch in self._data:
                arrays = jax.tree.map(jnp.asarray, batch)
                yield arrays, len(jax.tree.leaves(arrays)[0])
            return
        for first in range(0, self._length, self._piece):
            last = min(first + self._piece, self._length)
            whole = last - first == self._length
            yield self._data if whole else jax.tree.map(lambda leaf: leaf[first:last], self._data), last - first


@jax.jit
def _sum_over(function: Lifted, parameters: Any, batch: Any, key: jax.Array, state: Any) -> dict[str, jax.Array]:
    return function(parameters, batch, key, state)
