"""The objective of a step: its batch, in one piece or several, and the gradient of the loss over it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffprog._util.promotion import own_promotion
from diffprog.fit._losses import Loss
from diffprog.optimize import Step


def objective_of(loss: Loss) -> Callable[[Any, Step], Any]:
    """Make the function that is differentiated: `step.data` is the batch, `step.tracked` the model's state."""
    return lambda parameters, step: loss.train(parameters, step.data, step.key, step.tracked)


def differentiate_over(batches: Any, value_and_grad: Callable, accumulate: int) -> Callable:
    """Make the transform that a `Descent` differentiates a step by.

    Args:
      batches: where a step's batch comes from.
      value_and_grad: transform of the loss.
      accumulate: pieces that a batch is cut into, one after the other, to save memory.

    Returns:
      A transform with the signature of `jax.value_and_grad`, of functions of parameters and a step.
    """

    def transform(objective: Callable, has_aux: bool = False) -> Callable:
        whole = value_and_grad(objective, has_aux=has_aux)

        def measure(parameters, step, size):
            batch = batches.batch(step, size)
            if accumulate == 1:
                return whole(parameters, step._replace(data=batch))
            return _accumulated(whole, parameters, step, batch, accumulate, has_aux)

        def differentiated(parameters, step):
            if len(batches.sizes) == 1:
                return measure(parameters, step, batches.sizes[0])
            long, short = batches.sizes
            return jax.lax.cond(
                batches.is_short(step),
                lambda parameters: measure(parameters, step, short),
                lambda parameters: measure(parameters, step, long),
                parameters,
            )

        return differentiated

    return transform


def _accumulated(whole, parameters, step, batch, num_pieces, has_aux):
    """Average value and gradient over pieces, each by its number of examples."""
    size = len(jax.tree.leaves(batch)[0])
    piece = -(-size // num_pieces)
    full, rest = divmod(size, piece)

    def part(first, length, carry, number):
        total, tracked = carry
        examples = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, length), batch)
        key = None if step.key is None else jax.random.fold_in(step.key, number)
        measured, gradient = whole(parameters, step._replace(data=examples, key=key, tracked=tracked))
        value, tracked = measured if has_aux else (measured, tracked)
        with own_promotion():
            weighted = jax.tree.map(lambda leaf: leaf * (length / size), (value, gradient))
            return jax.tree.map(jnp.add, total, weighted), tracked

    shapes = jax.eval_shape(lambda: whole(parameters, step._replace(data=jax.tree.map(lambda x: x[:piece], batch))))
    value = shapes[0][0] if has_aux else shapes[0]
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (value, shapes[1]))
    turn = lambda number, carry: part(number * piece, piece, carry, number)
    carry = jax.lax.fori_loop(0, full, turn, (zeros, step.tracked))
    if rest:
        carry = part(full * piece, rest, carry, full)
    (value, gradient), tracked = carry
    return ((value, tracked) if has_aux else value), gradient
