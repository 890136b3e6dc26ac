"""A limited-memory quasi-Newton search that is told values and asks for the next point.

A search is a state that names the point to evaluate next, `state.point`, and takes in value and gradient there by
`update`. So a batch of searches asks for one batched evaluation a turn, although each may be at another stage: a trial
on its line, the first trial of a new line, or at rest because it is done. None sees another, and none can stop another.

What differs between methods is the direction that they make of the memory: see `lbfgs.py` and `lbfgsb.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from diffprog._util.numbers import check_count
from diffprog._util.trees import tree_where
from diffprog.optimize._methods import line_search
from diffprog.optimize._methods.box_model import max_step
from diffprog.optimize._methods.pairs import Pairs, add_pair
from diffprog.optimize._search.optimizer import FLAT, NOT_FINITE, SEARCHING, SETTLED, STUCK
from diffprog.optimize._search.oracle import Counts, Oracle

GRADIENT_POWER = 0.6  # of the rounding error, at which a gradient counts as 0: 4e-10 in float64
MAX_GRADIENT_PART = 1e-5  # but not above this, as in float32

Direction = Callable[[Pairs, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


class Search(NamedTuple):
    """A search for ONE minimum among n numbers."""

    point: jax.Array  # (n,), where to evaluate next: always in the box
    best: jax.Array  # (n,), the iterate, which has the lowest value so far
    value: jax.Array  # at `best`
    gradient: jax.Array  # at `best`
    pairs: Pairs
    direction: jax.Array
    line: line_search.LineSearch
    scale: jax.Array  # the largest element of the first gradient
    first_slope: jax.Array  # the first projected gradient
    num_iterations: jax.Array  # int32
    num_evaluations: jax.Array  # int32
    status: jax.Array  # int32


class Tolerances(NamedTuple):
    """When a search is done. Both are relative, so a multiple of the function has an equal search.

    Attributes:
      gradient: largest element of the projected gradient, as a part of the first one.
      value: decrease of an iteration, seen or promised by the model, as a part of the value.
    """

    gradient: Any
    value: Any


def init(point: jax.Array, history_size: int = 10) -> Search:
    """Begin a search at a point (n,) in the box, which is to remember `history_size` steps."""
    zeros, zero, none = jnp.zeros_like(point), jnp.zeros((), point.dtype), jnp.zeros((), jnp.int32)
    pairs, line = Pairs.none(point, history_size), line_search.init(zero, zero, zero + 1)
    return Search(point, point, zero + jnp.inf, zeros, pairs, zeros, line, zero, zero, none, none, none)


def update(
    direction_of: Direction,
    state: Search,
    value: jax.Array,
    gradient: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    tolerances: Tolerances,
) -> Search:
    """Take in value and gradient at `state.point`; a search that is done stays as it is."""
    first = state.num_evaluations == 0
    line, accepted, failed = line_search.update(state.line, value, jnp.vdot(gradient, state.direction))
    accepted = (accepted | first) & jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
    forget = first | (failed & jnp.any(state.pairs.steps))  # a bad model may have made the direction: once more without

    best, best_value, slopes = tree_where(
        accepted, (state.point, value, gradient), (state.best, state.value, state.gradient)
    )
    pairs = tree_where(
        accepted, add_pair(state.pairs, state.point - state.best, gradient - state.gradient), state.pairs
    )
    largest = jnp.maximum(jnp.max(jnp.abs(slopes)), jnp.finfo(value.dtype).tiny)
    scale = jnp.where(first, largest, state.scale)
    slope = jnp.max(jnp.abs(jnp.clip(best - slopes / scale, lower, upper) - best))
    first_slope = jnp.where(first, slope, state.first_slope)

    pairs = tree_where(forget, pairs.forget(largest), pairs)
    direction, new_line, pairs = _new_line(direction_of, best, best_value, slopes, pairs, largest, lower, upper)
    direction, line = tree_where(accepted | forget, (direction, new_line), (state.direction, line))

    min_decrease = tolerances.value * jnp.maximum(jnp.abs(state.value), jnp.abs(value))
    flat = accepted & (slope <= tolerances.gradient * first_slope)
    promised = -line.start.slope  # of a line that goes on, or the new one: the model's decrease, and as much again
    settled = accepted & (
        (~first & (state.value - value <= min_decrease)) | (promised <= tolerances.value * jnp.abs(best_value))
    )
    ends = [flat, settled, first & ~accepted, failed & ~forget]
    status = jnp.select(ends, [FLAT, SETTLED, NOT_FINITE, STUCK], SEARCHING).astype(jnp.int32)
    point = jnp.where(status == SEARCHING, jnp.clip(best + line.step * direction, lower, upper), best)
    counts = (state.num_iterations + (accepted & ~first), state.num_evaluations + 1)
    new_state = Search(point, best, best_value, slopes, pairs, direction, line, scale, first_slope, *counts, status)
    return tree_where(state.status == SEARCHING, new_state, state)


def _new_line(direction_of, point, value, gradient, pairs, largest, lower, upper):
    """Begin a search along the direction that the memory proposes.

    One that does not lead downhill is given up for the projected gradient. Returns (direction, line, pairs).
    """
    direction = direction_of(pairs, point, gradient, lower, upper)
    uphill = ~(jnp.vdot(gradient, direction) < 0)
    direction = jnp.where(uphill, jnp.clip(point - gradient / largest, lower, upper) - point, direction)
    longest = jnp.clip(max_step(point, direction, lower, upper), 1, 1e10)
    line = line_search.init(value, jnp.vdot(gradient, direction), longest)
    return direction, line, tree_where(uphill, pairs.forget(largest), pairs)


class QuasiNewtonState(NamedTuple):
    """A search as the loop of `minimize` reads it; `point` is the lowest one."""

    point: jax.Array
    value: jax.Array
    counts: Counts
    status: jax.Array
    search: Search


@dataclass(frozen=True)
class QuasiNewton:
    """An optimizer of this kind; what a class adds is the direction.

    Attributes:
      history_size: steps that are remembered.
      gradient_tolerance: of `Tolerances`; None stands for 1e-5 in float32, 4e-10 in float64.
      value_tolerance: of `Tolerances`; None stands for the rounding error.
      direction_of: makes a direction of memory, point, gradient and bounds.
    """

    history_size: int
    gradient_tolerance: float | None
    value_tolerance: float | None

    max_steps: ClassVar[int] = 15000
    asks: ClassVar[str] = "function"
    takes_bounds: ClassVar[bool]
    direction_of: ClassVar[Direction]

    def __post_init__(self):
        check_count(self.history_size, "history_size")
        for name in ("gradient_tolerance", "value_tolerance"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be a part, from 0 on and below 1; found {getattr(self, name)!r}")

    def init(self, oracle: Oracle, point: jax.Array, key: jax.Array) -> QuasiNewtonState:
        """Evaluate the start."""
        return self._ask(oracle, init(point, self.history_size), Counts.none())

    def update(self, oracle: Oracle, state: QuasiNewtonState) -> QuasiNewtonState:
        """Evaluate one point, on this line or the next."""
        return self._ask(oracle, state.search, state.counts)

    def _ask(self, oracle, search, counts):
        value, gradient, counts = oracle.value_and_gradient(search.point, counts)
        tolerances = self._tolerances(value.dtype)
        search = update(type(self).direction_of, search, value, gradient, oracle.lower, oracle.upper, tolerances)
        lowest = jnp.where(search.status == NOT_FINITE, value, search.value)
        return QuasiNewtonState(search.best, lowest, counts, search.status, search)

    def _tolerances(self, dtype):
        eps = float(jnp.finfo(dtype).eps)
        return Tolerances(
            min(eps**GRADIENT_POWER, MAX_GRADIENT_PART) if self.gradient_tolerance is None else self.gradient_tolerance,
            eps if self.value_tolerance is None else self.value_tolerance,
        )
