"""The binary search for the weight of a loss, and schedules and units, of attacks that seek the minimum norm."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util import draws
from diffprog.attack._engine.method import Example
from diffprog.attack._norms import Norm

UNKNOWN = 1e10  # upper end of a bisection in which nothing has succeeded
CHECKS = 10  # a round that stalls is noticed so often


class BinarySearch(NamedTuple):
    """Rounds of minimization, each with one weight of the loss; the smallest weight that succeeds is sought.

    The weight grows tenfold until the first success, and is then halfway between failure and success (Carlini &
    Wagner 2017, section V, and their program).
    """

    weight: jax.Array  # float32, of this round
    low: jax.Array  # float32, the largest weight that failed
    high: jax.Array  # float32, the smallest that succeeded
    round: jax.Array  # int32, rounds finished
    step: jax.Array  # int32, of this round
    succeeded: jax.Array  # bool, whether this round has a success
    last_objective: jax.Array  # float32, when progress was last checked


class Limits(NamedTuple):
    """The numbers that a binary search is given."""

    initial_const: Any  # float32, the first weight
    rounds: Any  # int32
    max_steps: Any  # int32, of each round


def limits(initial_const: float, binary_search_steps: int, max_steps: int) -> Limits:
    """Make the limits of a binary search from the arguments of an attack."""
    return Limits(np.float32(initial_const), np.int32(binary_search_steps), np.int32(max_steps))


def first_round(limits: Limits) -> BinarySearch:
    """Begin a binary search."""
    zero, none, no = jnp.float32(0), jnp.int32(0), jnp.array(False)
    return BinarySearch(limits.initial_const, zero, zero + UNKNOWN, none, none, no, zero + jnp.inf)


def advance(search: BinarySearch, limits: Limits, succeeded, stalled) -> tuple[BinarySearch, jax.Array, jax.Array]:
    """Advance the binary search by one step.

    Args:
      search: the search.
      limits: its limits.
      succeeded: bool, whether the round has a success by now.
      stalled: bool, whether the round ends early.

    Returns:
      The search; bool, whether the step was the last of its round; and bool, whether it was the last of all.
    """
    step = search.step + 1
    ended = stalled | (step >= limits.max_steps)
    low = jnp.where(ended & jnp.logical_not(succeeded), jnp.maximum(search.low, search.weight), search.low)
    high = jnp.where(ended & succeeded, jnp.minimum(search.high, search.weight), search.high)
    finished = search.round + ended
    weight = jnp.where(high < UNKNOWN, (low + high) / 2, search.weight * 10)
    is_last = (limits.rounds >= 10) & (finished == limits.rounds - 1) & (high < UNKNOWN)
    weight = jnp.where(is_last, high, weight)  # as in the authors' program
    new = BinarySearch(
        weight=jnp.where(ended, weight, search.weight),
        low=low,
        high=high,
        round=finished,
        step=jnp.where(ended, 0, step),
        succeeded=succeeded & ~ended,
        last_objective=jnp.where(ended, jnp.inf, search.last_objective),
    )
    return new, ended, finished >= limits.rounds


def check_progress(search: BinarySearch, limits: Limits, objective) -> tuple[BinarySearch, jax.Array]:
    """Check ten times a round whether the objective has fallen by less than a ten thousandth since the last check."""
    due = search.step % jnp.maximum(limits.max_steps // CHECKS, 1) == 0
    stalled = due & (objective > 0.9999 * search.last_objective)
    return search._replace(last_objective=jnp.where(due, objective, search.last_objective)), stalled


def cosine_schedule(first, last, step, max_steps):
    """Go from `first` to `last` along half a cosine."""
    return last + (first - last) * (1 + jnp.cos(jnp.pi * step / max_steps)) / 2


def unit_gradient(norm: Norm, gradient: jax.Array, example: Example, key: jax.Array) -> jax.Array:
    """Scale the gradient to length 1; a zero gradient is replaced by a random direction, so that the search goes on."""
    random = draws.normal(key, gradient.shape) * (example.upper > example.lower)
    return norm.steepest(jnp.where(jnp.any(gradient != 0), gradient, random))
