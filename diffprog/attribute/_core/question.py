"""The question that every method asks: scores, and their gradients, of rows of what credit goes to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import Tracer
from diffprog._transforms.closures import Bound, Lifted, lift
from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog.attribute._core.mixing import warn_of_mixing
from diffprog.attribute._core.places import Moved
from diffprog.attribute._core.scores import explain
from diffprog.attribute._core.tracing import trace, zero_rows
from diffprog.graph import Selector
from diffprog.models import Model
from diffprog.optimize._engine import vjp


@dataclass(frozen=True)
class Question:
    """Rows and the function of them.

    Attributes:
      points: pytree of arrays of floats (n, ...): what credit goes to.
      context: pytree of arrays (n, ...): what else the scores depend on.
      count: number of examples, n.
      block: rows that the model sees at once. It depends on the model and on one row, never on n, and nothing else may
        change it: with another number of rows, XLA may add up in another order.
      chunk: rows of one run of a compiled program, a multiple of `block`.
      lifted: `lifted(points, context) -> scores (c,)`, or (c, k) of k scores.
      num_scores: k, or None for one score that has no axis of its own.
      engine: whose gradients, "diffprog" or "jax".
      present: makes of arrays like `points`, scores first if there are several, what `Attribution.values` holds.
      moved: the places inside the model to which credit goes; None if it goes to inputs.
      credited: which leaves of the inputs are the points, if credit goes to inputs.
    """

    points: Any
    context: Any
    count: int
    block: int
    chunk: int
    lifted: Lifted | Bound
    num_scores: int | None
    engine: str
    present: Callable[[Any], Any]
    moved: Moved | None
    credited: tuple[bool, ...]

    @property
    def dtype(self) -> np.dtype:
        """The type of sums: that of the points, or of the scores where points are integers; at least single."""
        leaves = [leaf for leaf in jax.tree.leaves(self.points) if is_float(leaf)] or [self.lifted.result]
        return jnp.promote_types(jnp.result_type(*(leaf.dtype for leaf in leaves)), jnp.float32)

    def rows(self, index: Any) -> Any:
        """Take the context of examples."""
        return jax.tree.map(lambda leaf: jnp.take(leaf, index, axis=0), self.context)

    def credited_in(self, inputs: Any) -> list[Any]:
        """Take the leaves to which credit goes from a pytree like the inputs."""
        return [leaf for leaf, is_credited in zip(jax.tree.leaves(inputs), self.credited, strict=True) if is_credited]

    def with_points(self, points: Any) -> "Question":
        """Ask about other points in the same context."""
        return replace(self, points=points)


def is_float(leaf: Any) -> bool:
    """Say whether an array has real numbers."""
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def floats(inputs: Any) -> list[bool]:
    """Give credit to the leaves of floats."""
    return [is_float(leaf) for leaf in jax.tree.leaves(inputs)]


@own_promotion()
def pose(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    at: Selector | list[Selector] | None = None,
    chunk: int | None = None,
    engine: str = "diffprog",
    credited: Callable[[Any], Sequence[bool]] = floats,
) -> Question:
    """Check what is given, and make a question of it.

    Args:
      model: a function from a batch, a pytree of arrays (n, ...), to outputs (n, ...); or a `diffprog.models.Model`.
      inputs: the examples, a pytree of arrays (n, ...).
      score: what is explained, see `diffprog.attribute`.
      at: selectors of the values that take the inputs' place; the inputs themselves if it is None.
      chunk: rows of one run of a compiled program, rounded up to whole blocks; by default one block, of as many rows as
        the size of the model's work on one suggests.
      engine: gradients by "diffprog" or by "jax".
      credited: says of the inputs which leaves get credit.

    Returns:
      A `Question`.

    Raises:
      ValueError: something does not fit; the message says what to do.
    """
    vjp(engine)  # refuses another one
    inputs, count = check_inputs(model, inputs)
    explained = explain(model, score, count)
    context = (inputs, jnp.asarray(explained.classes))
    flags = tuple(credited(inputs)) if at is None else ()
    merge: Any
    points, merge = _split(inputs, flags) if at is None else (None, None)
    block, lifted, place = trace(model, explained, at, context, points, merge and merge.joined, flags)
    chunk = block if chunk is None else -(-check_count(chunk, "chunk") // block) * block
    if place is not None:
        points = values_at(place, context, count, block)
    if not isinstance(model, Model):
        warn_of_mixing(lambda context: explained.function(*context), context, lifted)
    num_scores = lifted.result.shape[1] if explained.is_several else None
    present = merge.filled if place is None else place.present
    return Question(points, context, count, block, chunk, lifted, num_scores, engine, present, place, flags)


def check_inputs(model: Any, inputs: Any, name: str = "inputs") -> tuple[Any, int]:
    """Require a batch of finite numbers, and return it and the number of examples."""
    if isinstance(model, Model):
        images = model.check_images(inputs)
        if not len(images):
            raise ValueError(f"{name} must be a batch of examples; found none")
        return images, len(images)
    inputs = jax.tree.map(jnp.asarray, inputs)
    leaves = jax.tree.leaves(inputs)
    sizes = {leaf.shape[0] if leaf.ndim else -1 for leaf in leaves}
    if len(sizes) != 1 or -1 in sizes:
        shapes = ", ".join(str(leaf.shape) for leaf in leaves) or "no array"
        raise ValueError(
            f"{name} must be arrays (n, ...) with one row per example; found {shapes}: add an axis, x[None]"
        )
    (count,) = sizes
    if count == 0:
        raise ValueError(f"{name} must be a batch of examples; found none")
    for leaf in leaves:
        if not isinstance(leaf, Tracer) and jnp.issubdtype(leaf.dtype, jnp.floating):
            bad = ~np.isfinite(np.asarray(leaf, np.float32)).reshape(count, -1).all(axis=1)
            if bad.any():
                raise ValueError(
                    f"{name} must be finite; example {int(bad.argmax())} has NaN or infinity ({int(bad.sum())} of "
                    f"{count} do): mend the data"
                )
    return inputs, count


class _Merge:
    """Inputs of which some leaves are the points."""

    def __init__(self, tree, credited):
        self.tree, self.credited = tree, credited

    def joined(self, points, inputs):
        own = iter(points)
        leaves = jax.tree.leaves(inputs)
        mixed = [next(own) if is_credited else leaf for is_credited, leaf in zip(self.credited, leaves, strict=True)]
        return jax.tree.unflatten(self.tree, mixed)

    def filled(self, points):
        own = iter(points)
        return jax.tree.unflatten(self.tree, [next(own) if is_credited else None for is_credited in self.credited])


def _split(inputs, credited):
    leaves, tree = jax.tree.flatten(inputs)
    merge = _Merge(tree, credited)
    if not any(credited):
        kinds = ", ".join(str(leaf.dtype) for leaf in leaves)
        raise ValueError(
            f"credit goes to floats; the inputs are {kinds}: give at=, a value inside the model such as the embedding "
            "(dp.tap names one)"
        )
    return [leaf for leaf, is_credited in zip(leaves, credited, strict=True) if is_credited], merge


def in_blocks(program: Callable[[Any], Any], rows: Any, count: int, block: int) -> Any:
    """Call a program on blocks of one size, the last filled up with copies of a row, and join what it returns.

    Args:
      program: pytree of arrays (block, ...) -> pytree of arrays (block, ...).
      rows: pytree of arrays (n, ...).
      count: n.
      block: rows of a call.
    """
    if count == block:
        return program(rows)
    parts = []
    for first in range(0, count, block):
        index = np.minimum(np.arange(first, first + block, dtype=np.int32), count - 1)
        parts.append(program(jax.tree.map(lambda leaf, index=index: leaf[index], rows)))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:count], *parts)


def values_at(place: Moved, context: Any, count: int, block: int) -> list[jax.Array]:
    """Compute the values in places inside the model, each (n, ...)."""
    values = place.program or lift(place.values, *zero_rows(context, block))
    return in_blocks(lambda rows: _values(values, rows), context, count, block)


@jax.jit
def _values(lifted, context):
    return lifted(*context)


# ---------------------------------------------------------------- one run of a compiled program


def scores(question: Question, points: Any, context: Any) -> jax.Array:
    """Score a chunk of rows: (c,), or (c, k).

    Args:
      question: whose function.
      points: like the question's, with `chunk` rows.
      context: likewise.
    """
    return _scores(question.block, question.lifted, points, context)


def scores_and_gradients(question: Question, points: Any, context: Any) -> tuple[jax.Array, Any]:
    """Score a chunk of rows, and differentiate each score with respect to its own row.

    Args:
      question: whose function.
      points: like the question's, with `chunk` rows.
      context: likewise.

    Returns:
      Scores (c,) and gradients like `points`; of k scores (c, k), and gradients (c, k, ...).
    """
    return _scores_and_gradients(question.engine, question.block, question.lifted, points, context)


@partial(jax.jit, static_argnums=0)
def _scores(block, lifted, points, context):
    return _by_block(lambda rows: lifted(*rows), block, (points, context))


@partial(jax.jit, static_argnums=(0, 1))
@own_promotion()
def _scores_and_gradients(engine, block, lifted, points, context):
    def of_block(rows):
        points, context = rows
        return gradients_of(lambda points: lifted(points, context), points, engine)

    return _by_block(of_block, block, (points, context))


def _by_block(program, block, rows):
    """Run a program on one block of rows after the other."""
    count = len(jax.tree.leaves(rows)[0]) // block
    if count == 1:
        return program(rows)
    blocks = jax.tree.map(lambda leaf: leaf.reshape(count, block, *leaf.shape[1:]), rows)
    results = jax.lax.map(program, blocks)
    return jax.tree.map(lambda leaf: leaf.reshape(count * block, *leaf.shape[2:]), results)


def gradients_of(function: Callable[[Any], jax.Array], points: Any, engine: str = "diffprog") -> tuple[jax.Array, Any]:
    """Differentiate scores (c,) or (c, k) of rows, each with respect to its own row, in one forward pass."""
    values, pull = vjp(engine)(function, points)
    if values.ndim == 1:
        return values, pull(jnp.ones_like(values))[0]
    one_hot = jnp.eye(values.shape[1], dtype=values.dtype)
    cotangent = lambda row: jnp.broadcast_to(row, values.shape)
    return values, jax.vmap(lambda row: pull(cotangent(row))[0], out_axes=1)(one_hot)
