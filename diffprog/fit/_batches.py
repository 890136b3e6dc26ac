"""Batches of data in memory: which examples a step sees is a function of the key and the step's number alone."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding

from diffprog._util.content_digest import content_digest
from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog.optimize import Step

LAST_BATCHES = ("short", "drop", "carry")
ORDER_LENGTH = 2**18  # numbers of examples that are drawn ahead


def visiting_order(key: jax.Array, num_examples: int, epochs: int, first: int = 0) -> jax.Array:
    """Draw a permutation of the examples for each epoch.

    Args:
      key: random key.
      num_examples: number of examples.
      epochs: number of permutations.
      first: number of the first epoch.

    Returns:
      Integers (epochs * num_examples,), one permutation after the other; each depends on the key and its epoch alone.
    """
    return _order(key, jnp.int32(first), num_examples, epochs)


@partial(jax.jit, static_argnums=(2, 3))
def _order(key, first, num_examples, epochs):
    keys = jax.vmap(lambda epoch: jax.random.fold_in(key, epoch))(first + jnp.arange(epochs, dtype=jnp.int32))
    order = jax.vmap(lambda key: jax.random.permutation(key, num_examples))(keys)
    return order.reshape(-1).astype(jnp.int32)  # under jax_enable_x64 too


def count_examples(arrays: Any, name: str) -> int:
    """Take the length of the leading axis that all arrays of a pytree have.

    Raises:
      ValueError: They have none, or several; or they are spread over an axis of a mesh whose type is Explicit.
    """
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(arrays)]
    lengths = {shape[0] if shape else 0 for shape in shapes}
    if len(lengths) != 1 or lengths == {0}:
        found = ", ".join(map(str, shapes[:6])) or "none"
        raise ValueError(f"{name} must be arrays with one leading axis, of examples; found shapes {found}")
    axis = next(filter(None, map(_explicit_axis, jax.tree.leaves(arrays))), None)
    if axis is not None:
        raise ValueError(
            f"{name} is spread over the mesh axis {axis!r} of type Explicit, where each sum over examples would need a "
            "sharding of its own: make the mesh with axis_types=(jax.sharding.AxisType.Auto,)"
        )
    return lengths.pop()


def _explicit_axis(array: Any) -> str | None:
    """Find an axis of type Explicit that an array is spread over."""
    sharding = getattr(array, "sharding", None)
    if not isinstance(sharding, NamedSharding):
        return None
    types = dict(zip(sharding.mesh.axis_names, sharding.mesh.axis_types, strict=True))
    return next((axis for axis in jax.tree.leaves(tuple(sharding.spec)) if types.get(axis) == AxisType.Explicit), None)


class ArrayBatches:
    """Batches of a pytree of arrays with one leading axis.

    Attributes:
      sizes: numbers of examples of a batch, and of the last one of an epoch if that is shorter.
      steps_per_epoch: steps in which an epoch is over; a fraction where batches reach from one into the next.
      can_resume: that any step's batch can be made without those before it.
    """

    can_resume = True

    def __init__(self, arrays: Any, batch_size: int | None, last_batch: str, key: jax.Array, max_steps: int | None):
        self.num_examples = count_examples(arrays, "data")
        size = self.num_examples if batch_size is None else check_count(batch_size, "batch_size")
        if size > self.num_examples:
            raise ValueError(
                f"batch_size must be between 1 and the {self.num_examples} examples of data; found {batch_size}"
            )
        if last_batch not in LAST_BATCHES:
            raise ValueError(f"last_batch must be one of {', '.join(map(repr, LAST_BATCHES))}; found {last_batch!r}")
        whole, rest = divmod(self.num_examples, size)
        self.sizes: tuple[int, ...] = (size, rest) if rest and last_batch == "short" else (size,)
        self.carries = bool(rest) and last_batch == "carry"
        self.steps_per_epoch = self.num_examples / size if self.carries else whole + len(self.sizes) - 1
        self._arrays, self._key = jax.tree.map(jnp.asarray, arrays), key
        self._chunk: tuple[int, Any] = (-1, None)
        self._epochs = max(1, ORDER_LENGTH // self.num_examples)
        if max_steps is not None:
            self._epochs = min(self._epochs, int(max_steps / self.steps_per_epoch) + 1)

    def num_steps(self, epochs: int) -> int:
        """Count the steps of some epochs; a last batch that would reach beyond them is counted."""
        return -(-epochs * self.num_examples // self.sizes[0]) if self.carries else int(epochs * self.steps_per_epoch)

    def segment(self, step: int, limit: int) -> tuple[Any, int]:
        """Make the data of a run of steps: what `batch` reads, and how many of at most `limit` steps it holds for."""
        if self.sizes == (self.num_examples,):
            return {"arrays": self._arrays}, limit
        number = int(self._first_example(step) // self.num_examples) // self._epochs
        first, end = self._first_step(number), self._first_step(number + 1)
        if self._chunk[0] != number:
            ahead = self._epochs + self.carries  # a batch may reach into the next epoch
            order = visiting_order(self._key, self.num_examples, ahead, number * self._epochs)
            self._chunk = number, order
        offset = self._first_example(first) - number * self._epochs * self.num_examples
        data = {"arrays": self._arrays, "order": self._chunk[1], "first": np.int32(first), "offset": np.int32(offset)}
        return data, min(limit, end - step)

    def _first_example(self, step: int) -> int:
        """Place of a step's first example in all epochs' orders, one after the other."""
        if self.carries:
            return step * self.sizes[0]
        epoch, place = divmod(step, int(self.steps_per_epoch))
        return epoch * self.num_examples + place * self.sizes[0]

    def _first_step(self, chunk: int) -> int:
        epochs = chunk * self._epochs
        return -(-epochs * self.num_examples // self.sizes[0]) if self.carries else epochs * int(self.steps_per_epoch)

    def is_short(self, step: Step) -> jax.Array:
        """Whether a step's batch is the shorter one."""
        per_epoch = int(self.steps_per_epoch)
        return step.num_steps % per_epoch == per_epoch - 1

    def batch(self, step: Step, size: int) -> Any:
        """Gather a step's batch, in the compiled program."""
        if self.sizes == (self.num_examples,):
            return step.data["arrays"]
        with own_promotion():
            place = step.num_steps - step.data["first"]
            if self.carries:
                start = place * self.sizes[0] + step.data["offset"]
            else:
                per_epoch = int(self.steps_per_epoch)
                start = place // per_epoch * self.num_examples + place % per_epoch * self.sizes[0]
            indices = jax.lax.dynamic_slice_in_dim(step.data["order"], start, size)
            return jax.tree.map(lambda leaf: leaf[indices], step.data["arrays"])

    def seen(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Say for numbers of steps how many epochs and examples they have seen."""
        steps = np.asarray(steps, np.int64)
        if self.carries:
            examples = steps * self.sizes[0]
            return examples / self.num_examples, examples
        per_epoch = int(self.steps_per_epoch)
        used = self.num_examples if len(self.sizes) == 2 else per_epoch * self.sizes[0]  # of an epoch
        examples = steps // per_epoch * used + steps % per_epoch * self.sizes[0]
        return examples / used, examples

    def position(self, step: int) -> Any:
        """Say what has to be stored to go on at a step."""
        return None

    def restore(self, step: int, position: Any) -> None:
        """Go on at a step."""

    def digest(self) -> str:
        """Digest the data."""
        return content_digest(self._arrays, "data").key
