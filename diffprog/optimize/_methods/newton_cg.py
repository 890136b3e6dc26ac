"""Newton's method along a line, by conjugate gradients: only products with the Hessian are asked."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from diffprog.optimize._methods.quadratic_model import truncated_step
from diffprog.optimize._methods.stopping import is_flat, is_short, rounding_of
from diffprog.optimize._search.optimizer import FLAT, NOT_FINITE, SEARCHING, SETTLED, SHORT, STUCK
from diffprog.optimize._search.oracle import Counts, Oracle

LEAST_DECREASE = 1e-4  # of what slope and curvature promise (Armijo)
MAX_TRIALS = 40  # points on one line


class LineState(NamedTuple):
    """A point, the gradient there, and how long the last step was."""

    point: jax.Array
    value: jax.Array
    counts: Counts
    status: jax.Array
    gradient: jax.Array  # (n,), at the point
    probe: jax.Array  # (n,), a random direction
    first_gradient: jax.Array  # its largest element at the start
    length: jax.Array  # of the last step


class _Trial(NamedTuple):
    part: jax.Array  # of the direction
    value: jax.Array
    best_part: jax.Array  # the longest one that is good enough; 0 if none is yet
    best_value: jax.Array
    counts: Counts
    number: jax.Array
    is_over: jax.Array


@jax.tree_util.register_static
@dataclass(frozen=True)
class NewtonCG:
    """See `newton_cg`."""

    max_steps: ClassVar[int] = 2000
    asks: ClassVar[str] = "function"
    takes_bounds: ClassVar[bool] = False

    def init(self, oracle: Oracle, point: jax.Array, key: jax.Array) -> LineState:
        """Make the state before the first step."""
        value, gradient, counts = oracle.value_and_gradient(point, Counts.none())
        is_finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
        status = jnp.where(is_finite, SEARCHING, NOT_FINITE).astype(jnp.int32)
        probe = jax.random.normal(key, point.shape, point.dtype)
        length = jnp.maximum(jnp.linalg.norm(point), 1)
        return LineState(point, value, counts, status, gradient, probe, jnp.max(jnp.abs(gradient)), length)

    def update(self, oracle: Oracle, state: LineState) -> LineState:
        """Solve for a direction, and go along it."""
        product = oracle.hessian_product(state.point)
        size = jnp.max(jnp.abs(state.gradient)) / jnp.where(state.first_gradient > 0, state.first_gradient, 1)
        tolerance = jnp.minimum(0.1, size)
        # Conjugate gradients alone know no end along negative curvature: a ball gives one.
        radius = 10 * state.length
        found, counts = truncated_step(product, state.gradient, state.probe, radius, tolerance, state.counts)
        state = state._replace(counts=counts)
        ends = is_flat(state.gradient, state.first_gradient, state.value, found.promised) & ~found.is_curved

        def end(state):
            return state._replace(status=jnp.int32(FLAT))

        def move(state):
            return _along(oracle, state, found)

        return jax.lax.cond(ends, end, move, state)


def _along(oracle: Oracle, state: LineState, found) -> LineState:
    slope = jnp.vdot(state.gradient, found.step)
    curvature = jnp.minimum(-2 * (found.promised + slope), 0)  # along the whole step, where it is negative

    def is_good(part, value):
        return value <= state.value + LEAST_DECREASE * (part * slope + part**2 * curvature / 2)

    def goes_on(trial):
        return ~trial.is_over & (trial.number < MAX_TRIALS)

    def turn(trial):
        value, counts = oracle.value(state.point + trial.part * found.step, trial.counts)
        good = is_good(trial.part, value) & (value < trial.best_value)
        had_one = trial.best_part > 0
        best_part = jnp.where(good, trial.part, trial.best_part)
        best_value = jnp.where(good, value, trial.best_value)
        # A step that ended on the border is too short if the value still falls as promised.
        is_promising = good & ~found.is_inside & (state.value - value > 0.75 * _promised(trial.part, slope, found))
        cut = jnp.clip(-slope * trial.part / (2 * (value - state.value - slope * trial.part)), 0.1, 0.5)
        shorter = trial.part * jnp.where(jnp.isfinite(cut), cut, 0.1)
        part = jnp.where(is_promising, 2 * trial.part, shorter)
        is_over = jnp.where(good, ~is_promising, had_one)
        return _Trial(part, value, best_part, best_value, counts, trial.number + 1, is_over)

    zero = jnp.zeros_like(state.value)
    begin = _Trial(zero + 1, state.value, zero, state.value, state.counts, jnp.int32(0), jnp.array(False))
    end = jax.lax.while_loop(goes_on, turn, begin)
    rounding = rounding_of(state.value, state.gradient, state.point)
    is_noise = found.is_inside & (found.promised <= rounding)
    is_better = end.best_part > 0
    step = end.best_part * found.step
    point = state.point + step
    gradient, counts = jax.lax.cond(
        is_better,
        lambda counts: oracle.gradient(point, counts),
        lambda counts: (state.gradient, counts),
        end.counts,
    )
    is_taken = is_better & jnp.all(jnp.isfinite(gradient))
    # A whole Newton step that is short says that the minimum is near; one that was cut says nothing.
    is_near = is_short(step, point) & found.is_inside & (end.best_part == 1)
    status = jnp.where(is_near, SHORT, SEARCHING)
    status = jnp.where(is_taken, status, jnp.where(is_noise, SETTLED, STUCK)).astype(jnp.int32)
    first = jnp.where(state.first_gradient > 0, state.first_gradient, jnp.max(jnp.abs(gradient)))
    taken = LineState(point, end.best_value, counts, status, gradient, state.probe, first, jnp.linalg.norm(step))
    stayed = state._replace(counts=counts, status=status)
    return jax.tree.map(lambda new, old: jnp.where(is_taken, new, old), taken, stayed)


def _promised(part, slope, found):
    """Compute the decrease of the quadratic model after a part of the step."""
    return -(part * slope - part**2 * (found.promised + slope))


def newton_cg() -> NewtonCG:
    """Make the Newton method with conjugate gradients and a line search, for `minimize`.

    The Newton equations are solved only as exactly as the distance to the minimum deserves. A direction of negative
    curvature is followed, as far as the value keeps its promises, so that saddles are left.

    Returns:
      The optimizer.

    References:
      Dembo & Steihaug, "Truncated-Newton algorithms for large-scale unconstrained optimization", 1983.
      Nocedal & Wright, "Numerical Optimization", 2006, section 7.1.
    """
    return NewtonCG()
