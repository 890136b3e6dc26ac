"""Levenberg-Marquardt: linear least squares in a trust region, bent along the curve that residuals really take."""

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
from diffprog.optimize._search.optimizer import FLAT, NOT_FINITE, SEARCHING, SETTLED, SHORT, STUCK
from diffprog.optimize._search.oracle import Counts, Oracle

SCALE_KEPT = 0.75  # of a parameter's scale, when its column of the Jacobian shrinks
COLUMN_KEPT = 0.1  # the part of a column that must be left after a step: else the linear model was trusted too far
MAX_BEND = 0.75  # of twice the acceleration, as a part of the step (Transtrum & Sethna)
LEAST_GAIN = 1e-3  # of the decrease that the linear model promises, for a step to be taken
SHORT_PART = 0.6  # the power of the rounding error at which a step is too short to matter, as a part of the parameters


class DampedState(NamedTuple):
    """A point, its linear model, and how far that is trusted."""

    point: jax.Array
    value: jax.Array
    counts: Counts
    status: jax.Array
    residuals: jax.Array  # (m,), at the point
    jacobian: jax.Array  # (m, n), at the point
    scale: jax.Array  # (n,), of the parameters, in units of the residuals
    radius: jax.Array  # of the trust region, over scaled steps


@jax.tree_util.register_static
@dataclass(frozen=True)
class LevenbergMarquardt:
    """See `levenberg_marquardt`."""

    acceleration: bool = True

    max_steps: ClassVar[int] = 2000
    asks: ClassVar[str] = "residuals"
    takes_bounds: ClassVar[bool] = True

    def init(self, oracle: Oracle, point: jax.Array, key: jax.Array) -> DampedState:
        """Make the state before the first step."""
        residuals, counts = oracle.residuals(point, Counts.none())
        jacobian, counts = oracle.jacobian(point, counts)
        is_finite = jnp.all(jnp.isfinite(residuals)) & jnp.all(jnp.isfinite(jacobian))
        scale = column_scale(jacobian)
        radius = jnp.linalg.norm(scale * point) + jnp.linalg.norm(residuals)
        status = jnp.where(is_finite, SEARCHING, NOT_FINITE).astype(jnp.int32)
        return DampedState(point, half_square(residuals), counts, status, residuals, jacobian, scale, radius)

    def update(self, oracle: Oracle, state: DampedState) -> DampedState:
        """Try a step: it is taken, or the trust region shrinks."""
        held = held_at_bounds(oracle, state.point, state.residuals, state.jacobian)
        model = LinearModel.of(state.jacobian, state.scale, held)
        # What a step can still change: Bates and Watts' relative offset. Below rounding, it is over.
        offset = jnp.sum(model.coordinates(state.residuals) ** 2)
        is_flat = offset <= jnp.finfo(offset.dtype).eps * 2 * state.value

        def move(state):
            return self._try(oracle, state, model, offset)

        def end(state):
            return state._replace(status=jnp.int32(FLAT))

        return jax.lax.cond(is_flat, end, move, state)

    def _try(self, oracle: Oracle, state: DampedState, model: LinearModel, offset: jax.Array) -> DampedState:
        step, t, free = step_in_box(oracle, state.point, state.residuals, model, state.radius)
        change, counts, bend = step, state.counts, jnp.zeros_like(t)
        length = jnp.linalg.norm(state.scale * step)
        if self.acceleration:
            second, counts = oracle.second_derivative(state.point, step, counts)
            acceleration = free.step(second, t) / 2
            bend = 2 * jnp.linalg.norm(state.scale * acceleration) / length
            bend = jnp.where(jnp.isfinite(bend), bend, jnp.inf)
            change = oracle.clip(state.point + step + acceleration) - state.point
        is_trusted = bend <= MAX_BEND
        promised = _promised(oracle, state, step, t)

        def look(counts):
            residuals, counts = oracle.residuals(state.point + change, counts)
            return residuals, counts

        residuals, counts = jax.lax.cond(is_trusted, look, lambda counts: (state.residuals, counts), counts)
        value = half_square(residuals)
        gain = (state.value - value) / promised
        gain = jnp.where(is_trusted & jnp.isfinite(gain) & (promised > 0), gain, -jnp.inf)

        def differentiate(counts):
            return oracle.jacobian(state.point + change, counts)

        rounding = rounding_of_residuals(state.point, state.residuals, state.jacobian)
        is_lower = gain > LEAST_GAIN
        # What is left to gain drowns in rounding, and is not seen any more: the last step is taken on trust.
        is_last = ~is_lower & is_trusted & (t == 0) & (offset / 2 <= rounding) & (value <= state.value + rounding)
        is_lower = is_lower | is_last
        jacobian, counts = jax.lax.cond(
            is_lower, differentiate, lambda counts: (jnp.full_like(state.jacobian, jnp.nan), counts), counts
        )
        norms, norms_before = (jnp.linalg.norm(x, axis=0) for x in (jacobian, state.jacobian))
        is_taken = is_lower & jnp.all(jnp.isfinite(jacobian)) & jnp.all(norms >= COLUMN_KEPT * norms_before)

        scaled_point = jnp.linalg.norm(state.scale * state.point)
        is_short = length <= jnp.finfo(length.dtype).eps ** SHORT_PART * scaled_point
        is_noise = promised <= rounding
        status = jnp.where(is_short, jnp.where(is_taken | is_noise, SHORT, STUCK), SEARCHING)
        status = jnp.where(is_last & is_taken, SETTLED, status).astype(jnp.int32)
        radius = _radius(state.radius, length, bend, gain, is_lower & ~is_taken)
        norms = jnp.maximum(norms, SCALE_KEPT * state.scale)
        taken = DampedState(
            state.point + change, value, counts, status, residuals, jacobian, jnp.where(norms > 0, norms, 1), radius
        )
        stayed = state._replace(counts=counts, status=status, radius=radius)
        return jax.tree.map(lambda new, old: jnp.where(is_taken, new, old), taken, stayed)


def _promised(oracle, state, step, t):
    """Compute the decrease that the linear model promises for a step."""
    change = state.jacobian @ step
    if oracle.is_bounded:
        return -jnp.vdot(state.residuals, change) - half_square(change)
    return half_square(change) + t * jnp.sum((state.scale * step) ** 2)  # the same, positive whatever rounding does


def _radius(radius, length, bend, gain, is_too_far):
    """Compute the next radius of the trust region.

    A bend that is too large goes down with the length, so its excess says by how much; otherwise the gain decides.
    """
    of_bend = jnp.clip(0.9 * MAX_BEND / bend, 0.1, 0.5)
    of_gain = jnp.where(jnp.isfinite(gain), 0.5, 0.1)
    shrunk = length * jnp.where(bend > MAX_BEND, of_bend, jnp.where(is_too_far, 0.25, of_gain))
    grown = jnp.where(gain > 0.75, jnp.maximum(radius, 2 * length), radius)
    return jnp.where((gain < 0.25) | is_too_far, shrunk, grown)


def levenberg_marquardt(*, acceleration: bool = True) -> LevenbergMarquardt:
    """Make the Levenberg-Marquardt method, for `least_squares`.

    Each step makes the linearized residuals smallest in a trust region, whose shape are the norms of the Jacobian's
    columns, so that units do not matter. The step is bent by the exact second derivative of the residuals along it. The
    bend also says, before the residuals are asked, whether the step is too long; and a step after which a parameter
    has lost nearly all its influence is taken back. The Jacobian is factored by QR and singular values, so that it may
    have fewer rows than columns, and any rank. Bounds are kept by active sets.

    Args:
      acceleration: bend steps, at one second derivative along a vector each (counted as `hessian_vector`). Without,
        there are more steps.

    Returns:
      The optimizer.

    References:
      More, "The Levenberg-Marquardt algorithm: implementation and theory", 1978.
      Transtrum & Sethna, "Improvements to the Levenberg-Marquardt algorithm for nonlinear least-squares
      minimization", arXiv:1201.5885, 2012.
      Bates & Watts, "A relative offset orthogonality convergence criterion for nonlinear least squares", 1981.
    """
    return LevenbergMarquardt(acceleration)
