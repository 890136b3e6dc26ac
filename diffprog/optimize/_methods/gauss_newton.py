"""Gauss-Newton: linear least squares again and again, along a line so that it does not diverge."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from diffprog.optimize._methods.linear_model import (
    LinearModel,
    column_scale,
    half_square,
    held_at_bounds,
    rounding_of_residuals,
    step_in_box,
)
from diffprog.optimize._methods.stopping import is_short
from diffprog.optimize._search.optimizer import FLAT, NOT_FINITE, SEARCHING, SETTLED, SHORT, STUCK
from diffprog.optimize._search.oracle import Counts, Oracle

LEAST_DECREASE = 1e-4  # of what the slope promises (Armijo)
MAX_TRIALS = 40  # points on one line


class LinearizedState(NamedTuple):
    """A point and the linear model there."""

    point: jax.Array
    value: jax.Array
    counts: Counts
    status: jax.Array
    residuals: jax.Array  # (m,), at the point
    jacobian: jax.Array  # (m, n), at the point


@jax.tree_util.register_static
@dataclass(frozen=True)
class GaussNewton:
    """See `gauss_newton`."""

    max_steps: ClassVar[int] = 1000
    asks: ClassVar[str] = "residuals"
    takes_bounds: ClassVar[bool] = True

    def init(self, oracle: Oracle, point: jax.Array, key: jax.Array) -> LinearizedState:
        """Make the state before the first step."""
        residuals, counts = oracle.residuals(point, Counts.none())
        jacobian, counts = oracle.jacobian(point, counts)
        is_finite = jnp.all(jnp.isfinite(residuals)) & jnp.all(jnp.isfinite(jacobian))
        status = jnp.where(is_finite, SEARCHING, NOT_FINITE).astype(jnp.int32)
        return LinearizedState(point, half_square(residuals), counts, status, residuals, jacobian)

    def update(self, oracle: Oracle, state: LinearizedState) -> LinearizedState:
        """Solve the linear problem, and go along its step as far as the value falls."""
        held = held_at_bounds(oracle, state.point, state.residuals, state.jacobian)
        model = LinearModel.of(state.jacobian, column_scale(state.jacobian), held)
        offset = jnp.sum(model.coordinates(state.residuals) ** 2)
        is_flat = offset <= jnp.finfo(offset.dtype).eps * 2 * state.value
        step, _, _ = step_in_box(oracle, state.point, state.residuals, model, jnp.asarray(jnp.inf, offset.dtype))

        def end(state):
            return state._replace(status=jnp.int32(FLAT))

        def move(state):
            return _along(oracle, state, step, offset)

        return jax.lax.cond(is_flat, end, move, state)


def _along(oracle: Oracle, state: LinearizedState, step: jax.Array, offset: jax.Array) -> LinearizedState:
    slope = jnp.vdot(state.residuals, state.jacobian @ step)

    def is_good(part, value):
        return value <= state.value + LEAST_DECREASE * part * slope

    def goes_on(trial):
        part, _, value, _, number = trial
        return ~is_good(part, value) & (number < MAX_TRIALS)

    def turn(trial):
        part, _, value, counts, number = trial
        cut = jnp.clip(-slope * part / (2 * (value - state.value - slope * part)), 0.1, 0.5)
        part = part * jnp.where(number == 0, 1, jnp.where(jnp.isfinite(cut), cut, 0.1))
        residuals, counts = oracle.residuals(oracle.clip(state.point + part * step), counts)
        return part, residuals, half_square(residuals), counts, number + 1

    unknown = jnp.full_like(state.value, jnp.nan)
    begin = (jnp.ones_like(state.value), state.residuals, unknown, state.counts, jnp.int32(0))
    part, residuals, value, counts, _ = jax.lax.while_loop(goes_on, turn, begin)
    point = oracle.clip(state.point + part * step)
    is_lower = is_good(part, value)
    jacobian, counts = jax.lax.cond(
        is_lower, lambda counts: oracle.jacobian(point, counts), lambda counts: (state.jacobian, counts), counts
    )
    is_taken = is_lower & jnp.all(jnp.isfinite(jacobian))
    is_noise = offset / 2 <= rounding_of_residuals(state.point, state.residuals, state.jacobian)
    status = jnp.where(is_short(part * step, point), SHORT, SEARCHING)
    status = jnp.where(is_taken, status, jnp.where(is_noise, SETTLED, STUCK)).astype(jnp.int32)
    taken = LinearizedState(point, value, counts, status, residuals, jacobian)
    stayed = state._replace(counts=counts, status=status)
    return jax.tree.map(lambda new, old: jnp.where(is_taken, new, old), taken, stayed)


def gauss_newton() -> GaussNewton:
    """Make the Gauss-Newton method with a line search, for `least_squares`.

    Each step solves the linearized problem whole, the shortest of its solutions where there are several, and is cut
    until the value falls. It is quick where residuals are small or nearly linear; `levenberg_marquardt()` is the one
    to rely on.

    Returns:
      The optimizer.

    References:
      Bjorck, "Numerical Methods for Least Squares Problems", 1996, section 9.2.
    """
    return GaussNewton()
