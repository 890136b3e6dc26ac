"""A sweep: many evaluations for each example, in chunks of one size, folded in the order of the samples.

The rows of a chunk are pairs of an example and a sample. What a method keeps of an example is changed by one sample
after the other, so that its bits depend neither on the chunk nor on the other examples.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from diffprog._util.promotion import own_promotion
from diffprog.attribute._core.question import Question, scores, scores_and_gradients

Make = Callable[[Any, Any, jax.Array], tuple[Any, Any]]
"""(the example's own data, what all share, number of the sample) -> (point, what else the fold needs), of one row."""
Fold = Callable[[Any, jax.Array, Any, Any], Any]
"""(state of one example, its score () or (k,), gradient like a point or (k, ...), what else) -> state."""


@own_promotion()
def sweep(
    question: Question,
    num_samples: int,
    make: Make,
    examples: Any,
    shared: Any,
    fold: Fold,
    state: Any,
    *,
    gradients: bool = True,
    rows: Sequence[int] | np.ndarray | None = None,
    progress: str | None = None,
) -> Any:
    """Evaluate each example at `num_samples` points, and fold the results.

    `make` and `fold` are functions of a module, or otherwise the same objects in each call: compiled programs are
    found by them.

    Args:
      question: what is asked.
      num_samples: evaluations of each example.
      make: makes the point of one row.
      examples: pytree of arrays (n, ...): the examples' own data, of which it gets one row.
      shared: pytree of arrays, which it gets whole.
      fold: takes in the answer to one row.
      state: pytree of arrays (n, ...), one row for each example of the question.
      gradients: whether gradients are asked for; without, the fold is given None in their place.
      rows: which examples are swept; all by default.
      progress: a caption, which switches on a progress bar with the time left.

    Returns:
      The state.
    """
    index = np.arange(question.count) if rows is None else np.asarray(rows)
    for chunk in _chunks(question, index, num_samples, make, examples, shared, progress):
        if gradients:
            answers = scores_and_gradients(question, chunk.points, chunk.context)
        else:
            answers = scores(question, chunk.points, chunk.context), None
        blocks = list(zip(chunk.blocks, chunk.extras, strict=True))
        for number, (each, extra) in enumerate(blocks):
            part = slice(number * question.block, (number + 1) * question.block)
            found, slopes = answers if len(blocks) == 1 else jax.tree.map(lambda x, part=part: x[part], answers)
            state = _fold_block(fold, each, state, (found, slopes, extra))
    return state


@own_promotion()
def scores_at(
    question: Question, num_samples: int, make: Make, examples: Any, shared: Any, progress: str | None = None
) -> np.ndarray:
    """Score each example at `num_samples` points, and keep all scores.

    Args:
      question: what is asked.
      num_samples: evaluations of each example.
      make: makes the point of one row; what else it returns is not used.
      examples: pytree of arrays (n, ...): the examples' own data.
      shared: pytree of arrays, which it gets whole.
      progress: a caption, which switches on a progress bar.

    Returns:
      Array (n, num_samples), or (n, num_samples, k) of k scores.
    """
    index = np.arange(question.count)
    found = [
        scores(question, chunk.points, chunk.context)
        for chunk in _chunks(question, index, num_samples, make, examples, shared, progress)
    ]
    rows = np.concatenate([np.asarray(each) for each in found])[: question.count * num_samples]
    return rows.reshape(question.count, num_samples, *rows.shape[1:])


class _Chunk(NamedTuple):
    """The rows of one run of the model."""

    points: Any
    context: Any
    blocks: list["_Block"]
    extras: list[Any]


def _chunks(question, index, num_samples, make, examples, shared, progress):
    """Make the chunks of all rows, in the order of the examples and their samples."""
    total, block = len(index) * num_samples, question.block
    with tqdm(total=total, desc=progress, unit="evaluation", disable=progress is None, leave=False) as bar:
        for start in range(0, total, question.chunk):
            end = min(start + question.chunk, total)
            blocks = [_Block(index, num_samples, first, total, block) for first in range(start, end, block)]
            made = [_make(make, _read(examples, each.rows), shared, each.samples) for each in blocks]
            context = _joined([_read(question.context, each.rows) for each in blocks])
            yield _Chunk(_joined([points for points, _ in made]), context, blocks, [extra for _, extra in made])
            bar.update(end - start)


class _Block:
    """The rows of one block: pairs of an example and a sample, the last filled up with copies that do not count.

    All programs but the model's work on blocks, and take no array whose shape knows how many examples there are: XLA
    might round otherwise.
    """

    def __init__(self, index, num_samples, first, total, block):
        numbers = np.arange(first, first + block)
        pairs = np.minimum(numbers, total - 1)
        self.rows = index[pairs // num_samples].astype(np.int32)
        self.samples = (pairs % num_samples).astype(np.int32)
        self.is_real = numbers < total
        examples, slots = np.unique(self.rows, return_inverse=True)
        # Places that no example needs read the last one and are written nowhere.
        nowhere = np.full(block - len(examples), np.iinfo(np.int32).max)
        self.places = np.concatenate([examples, nowhere]).astype(np.int32)
        self.slots = slots.astype(np.int32)


def _joined(parts):
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


@partial(jax.jit, static_argnums=0)
def _make(make, examples, shared, samples):
    return jax.vmap(make, (0, None, 0))(examples, shared, samples)


def _fold_block(fold, block, state, answers):
    local = _read(state, block.places)
    return _write(state, block.places, _fold(fold, local, block.slots, block.is_real, answers))


@jax.jit
def _read(state, places):
    return jax.tree.map(lambda leaf: jnp.take(leaf, places, axis=0, mode="clip"), state)


@jax.jit
def _write(state, places, local):
    return jax.tree.map(lambda leaf, new: leaf.at[places].set(new, mode="drop"), state, local)


@partial(jax.jit, static_argnums=0)
def _fold(fold, state, slots, is_real, answers):
    def take_in(state, row):
        slot, is_real, answers = row
        old = jax.tree.map(lambda leaf: leaf[slot], state)
        new = fold(old, *answers)
        kept = jax.tree.map(lambda new, old: jnp.where(is_real, new, old), new, old)
        return jax.tree.map(lambda leaf, row: leaf.at[slot].set(row), state, kept), None

    return jax.lax.scan(take_in, state, (slots, is_real, answers))[0]


# ---------------------------------------------------------------- folds that several methods share


def zeros(question: Question, like: Any = None) -> Any:
    """Make a state of zeros like gradients, (n, ...) or (n, k, ...), in the type of sums."""
    between = () if question.num_scores is None else (question.num_scores,)
    rows = question.points if like is None else like
    shape = lambda leaf: (question.count, *between, *leaf.shape[1:])
    return jax.tree.map(lambda leaf: jnp.zeros(shape(leaf), _sum_type(leaf)), rows)


def zero_scores(question: Question) -> jax.Array:
    """Make a state of zeros like scores, (n,) or (n, k)."""
    between = () if question.num_scores is None else (question.num_scores,)
    return jnp.zeros((question.count, *between), jnp.promote_types(question.dtype, jnp.float32))


def _sum_type(leaf):
    return jnp.promote_types(leaf.dtype, jnp.float32)


def keep_score(state: Any, score: jax.Array, gradient: Any, extra: Any) -> jax.Array:
    """Keep the score of the last sample."""
    return score.astype(state.dtype)


def point_of(example: Any, shared: Any, sample: jax.Array) -> tuple[Any, None]:
    """Take the example's own data as the point."""
    return example, None


def scores_of(question: Question, points: Any) -> jax.Array:
    """Score one point for each example: (n,), or (n, k)."""
    return sweep(question, 1, point_of, points, None, keep_score, zero_scores(question), gradients=False)


def scores_and_slopes(question: Question, progress: str | None = None) -> tuple[jax.Array, Any]:
    """Score the question's points, (n,) or (n, k), and differentiate, (n, ...) or (n, k, ...)."""
    state = (zero_scores(question), zeros(question))
    return sweep(question, 1, point_of, question.points, None, _keep, state, progress=progress)


def _keep(state, score, slope, extra):
    return jax.tree.map(lambda old, new: new.astype(old.dtype), state, (score, slope))
