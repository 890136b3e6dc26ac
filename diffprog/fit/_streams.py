"""Batches that come one by one: from a list, a loader, a generator."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.content_digest import content_digest
from diffprog.optimize import Step

STACK_BYTES = 2**24  # of batches that one call of the compiled program walks through
MAX_STACK = 64


def is_stream(data: Any) -> bool:
    """Whether data are batches, one after the other, and no pytree of arrays."""
    if isinstance(data, list):
        return bool(data) and not all(hasattr(item, "dtype") for item in data)
    return jax.tree_util.all_leaves([data]) and not hasattr(data, "dtype") and isinstance(data, Iterable | Sequence)


class StreamBatches:
    """Batches of an iterable.

    A list, or an object with `__len__` and `__getitem__`, can go on at any place; an iterator if it has `get_state` and
    `set_state`, as Grain's have.

    Attributes:
      sizes: None in the place of a number, as batches may differ.
      steps_per_epoch: None: unknown.
      can_resume: whether the place can be told and set.
    """

    sizes = (None,)
    steps_per_epoch = None

    def __init__(self, source: Any, max_epochs: int | None):
        self._is_sequence = hasattr(source, "__len__") and hasattr(source, "__getitem__")
        self._source, self._max_epochs, self._epoch = source, max_epochs, 0
        self._is_once = not self._is_sequence and iter(source) is source
        self._iterator: Any = _Indexed(source) if self._is_sequence else iter(source)
        self.can_resume = hasattr(self._iterator, "get_state") and hasattr(self._iterator, "set_state")
        self._held: Any = None  # a batch of other shapes than those before it, with its epoch and the place after it
        self._log: dict[int, tuple] = {0: (0, 0, self._place())}  # after each step: epochs, examples, place
        self._was_pulled = False

    def num_steps(self, epochs: int) -> None:
        """Say that the number of steps is not known before the end."""
        return None

    def segment(self, step: int, limit: int) -> tuple[Any, int]:
        """Stack batches of equal shapes for the next steps; 0 of them where the data end."""
        logged, shapes = dict(self._log), None
        batches: list[Any] = []
        self._log = {step: logged[step]}
        slots = 1
        while len(batches) < min(limit, slots):
            pulled = self._held or self._pull()
            self._held = None
            if pulled is None:
                break
            batch, epoch, place = pulled
            found = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), batch)
            if shapes is None:
                num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(batch))
                shapes, slots = found, max(1, min(MAX_STACK, STACK_BYTES // max(num_bytes, 1)))
            elif found != shapes:
                self._held = pulled
                break
            batches.append(batch)
            number = step + len(batches)
            self._log[number] = (epoch, self._log[number - 1][1] + _num_examples(batch), place)
        if not batches:
            return None, 0
        padded = batches + [batches[-1]] * (slots - len(batches))  # always as many: one compiled program
        stacked = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *padded)
        return {"stacked": stacked, "first": np.int32(step)}, len(batches)

    def _pull(self) -> tuple[Any, float, Any] | None:
        for _ in range(2):
            try:
                batch = next(self._iterator)
            except StopIteration:
                if self._is_once or not self._was_pulled or self._is_last_epoch():
                    return None
                self._epoch, self._was_pulled = self._epoch + 1, False
                self._iterator = _Indexed(self._source) if self._is_sequence else iter(self._source)
                continue
            self._was_pulled = True
            return jax.tree.map(np.asarray, batch), self._epoch, self._place()
        return None

    def _is_last_epoch(self) -> bool:
        return self._max_epochs is not None and self._epoch + 1 >= self._max_epochs

    def _place(self) -> Any:
        return self._iterator.get_state() if self.can_resume else None

    def batch(self, step: Step, size: int | None) -> Any:
        """Take a step's batch, in the compiled program."""
        return jax.tree.map(lambda leaf: leaf[step.num_steps - step.data["first"]], step.data["stacked"])

    def seen(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Say for numbers of steps of the last segment how many epochs are over, and how many examples they saw."""
        rows = [self._log[int(step)] for step in steps]
        return np.array([row[0] for row in rows], np.float64), np.array([row[1] for row in rows], np.int64)

    def position(self, step: int) -> Any:
        """Say what has to be stored to go on at a step."""
        epoch, examples, place = self._log[step]
        text = {"bytes": base64.b64encode(place).decode()} if isinstance(place, bytes) else {"place": place}
        return {"epoch": epoch, "examples": examples, "pulled": bool(examples), **text}

    def restore(self, step: int, position: Any) -> None:
        """Go on at a step."""
        place = base64.b64decode(position["bytes"]) if "bytes" in position else position["place"]
        self._iterator.set_state(place)
        self._epoch, self._held, self._was_pulled = position["epoch"], None, True
        self._log = {step: (position["epoch"], position["examples"], place)}

    def digest(self) -> str:
        """Digest the first batch, and put it back."""
        if not self.can_resume:
            return type(self._source).__name__
        place = self._place()
        first = next(self._iterator, None)
        self._iterator.set_state(place)
        return content_digest(jax.tree.map(np.asarray, first), "data").key


class _Indexed:
    """An iterator over a sequence that tells its place and takes another."""

    def __init__(self, sequence: Any):
        self._sequence, self._index = sequence, 0

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        if self._index >= len(self._sequence):
            raise StopIteration
        self._index += 1
        return self._sequence[self._index - 1]

    def get_state(self) -> int:
        return self._index

    def set_state(self, index: int) -> None:
        self._index = index


def _num_examples(batch: Any) -> int:
    leaves = [leaf for leaf in jax.tree.leaves(batch) if np.ndim(leaf)]
    return len(leaves[0]) if leaves else 1
