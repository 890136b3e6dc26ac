"""Newton's method in a trust region, with the whole Hessian or with products alone."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from diffprog.optimize._methods.quadratic_model import ModelStep, exact_step, truncated_step
from diffprog.optimize._methods.stopping import is_flat, is_short, rounding_of
from diffprog.optimize._search.optimizer import FLAT, NOT_FINITE, SEARCHING, SETTLED, SHORT, STUCK
from diffprog.optimize._search.oracle import Counts, Oracle

MAX_EXACT = 128  # parameters up to which the whole Hessian is made
LEAST_GAIN = 1e-4  # of the decrease that the model promises, for a step to be taken


class RegionState(NamedTuple):
    """A point, what is known of the function there, and how far that is trusted."""

    point: jax.Array
    value: jax.Array
    counts: Counts
    status: jax.Array
    gradient: jax.Array  # (n,), at the point
    hessian: jax.Array | None  # (n, n), at the point; None where products serve
    probe: jax.Array  # (n,), a random direction
    first_gradient: jax.Array  # its largest element at the start
    radius: jax.Array  # of the trust region


@jax.tree_util.register_static
@dataclass(frozen=True)
class TrustRegion:
    """See `trust_region`."""

    solver: str | None = None

    max_steps: ClassVar[int] = 2000
    asks: ClassVar[str] = "function"
    takes_bounds: ClassVar[bool] = False

    def init(self, oracle: Oracle, point: jax.Array, key: jax.Array) -> RegionState:
        """Make the state before the first step."""
        value, counts = oracle.value(point, Counts.none())
        gradient, hessian, counts = self._derivatives(oracle, point, counts)
        finite = [jnp.all(jnp.isfinite(x)) for x in (value, gradient, 0 if hessian is None else hessian)]
        status = jnp.where(jnp.all(jnp.array(finite)), SEARCHING, NOT_FINITE).astype(jnp.int32)
        probe = jax.random.normal(key, point.shape, point.dtype)
        radius = jnp.maximum(jnp.linalg.norm(point), 1)
        return RegionState(point, value, counts, status, gradient, hessian, probe, jnp.max(jnp.abs(gradient)), radius)

    def update(self, oracle: Oracle, state: RegionState) -> RegionState:
        """Try a step: it is taken, or the trust region shrinks."""
        found, counts = self._model_step(oracle, state)
        state = state._replace(counts=counts)
        ends = is_flat(state.gradient, state.first_gradient, state.value, found.promised) & ~found.is_curved

        def end(state):
            return state._replace(status=jnp.int32(FLAT))

        def move(state):
            return self._try(oracle, state, found)

        return jax.lax.cond(ends, end, move, state)

    def _is_exact(self, point):
        return self.solver == "exact" or (self.solver is None and len(point) <= MAX_EXACT)

    def _derivatives(self, oracle, point, counts):
        if self._is_exact(point):
            return oracle.gradient_and_hessian(point, counts)
        gradient, counts = oracle.gradient(point, counts)
        return gradient, None, counts

    def _model_step(self, oracle: Oracle, state: RegionState) -> tuple[ModelStep, Counts]:
        if state.hessian is not None:
            return exact_step(state.gradient, state.hessian, state.radius), state.counts
        product = oracle.hessian_product(state.point)
        size = jnp.max(jnp.abs(state.gradient)) / jnp.where(state.first_gradient > 0, state.first_gradient, 1)
        # Ever more exact towards the end, so that it converges faster than linearly (Dembo, Eisenstat & Steihaug).
        tolerance = jnp.minimum(0.1, size)
        return truncated_step(product, state.gradient, state.probe, state.radius, tolerance, state.counts)

    def _try(self, oracle: Oracle, state: RegionState, found: ModelStep) -> RegionState:
        point = state.point + found.step
        value, counts = oracle.value(point, state.counts)
        gain = (state.value - value) / found.promised
        gain = jnp.where(jnp.isfinite(gain) & (found.promised > 0), gain, -jnp.inf)
        is_lower = gain > LEAST_GAIN
        # What is left to gain drowns in rounding, and is not seen any more: the last step is taken on trust.
        rounding = rounding_of(state.value, state.gradient, state.point)
        is_last = ~is_lower & found.is_inside & (found.promised <= rounding) & (value <= state.value + rounding)
        is_lower = is_lower | is_last

        def differentiate(counts):
            return self._derivatives(oracle, point, counts)

        def keep(counts):
            return state.gradient, state.hessian, counts

        gradient, hessian, counts = jax.lax.cond(is_lower, differentiate, keep, counts)
        finite = [jnp.all(jnp.isfinite(x)) for x in (gradient, 0 if hessian is None else hessian)]
        is_taken = is_lower & finite[0] & finite[1]

        length = jnp.linalg.norm(found.step)
        is_noise = found.promised <= rounding
        status = jnp.where(is_short(found.step, point), jnp.where(is_taken | is_noise, SHORT, STUCK), SEARCHING)
        status = jnp.where(is_last & is_taken, SETTLED, status).astype(jnp.int32)
        slope = jnp.vdot(state.gradient, found.step)
        radius = _radius(
            state.radius, length, jnp.where(is_taken, gain, jnp.minimum(gain, 0)), value - state.value, slope
        )
        first = jnp.maximum(state.first_gradient, jnp.where(state.first_gradient == 0, jnp.max(jnp.abs(gradient)), 0))
        taken = state._replace(
            point=point,
            value=value,
            counts=counts,
            status=status,
            gradient=gradient,
            hessian=hessian,
            first_gradient=first,
            radius=radius,
        )
        stayed = state._replace(counts=counts, status=status, radius=radius)
        return jax.tree.map(lambda new, old: jnp.where(is_taken, new, old), taken, stayed)


def _radius(radius, length, gain, change, slope):
    """Compute the next radius: a bad step is cut where the parabola through both values and the slope is lowest."""
    cut = jnp.clip(-slope / (2 * (change - slope)), 0.1, 0.5)
    cut = jnp.where(jnp.isfinite(cut), cut, 0.1)
    grown = jnp.where(gain > 0.75, jnp.maximum(radius, 2 * length), radius)
    return jnp.where(gain < 0.25, cut * length, grown)


def trust_region(*, solver: str | None = None) -> TrustRegion:
    """Make Newton's method in a trust region, for `minimize`.

    Each step goes to the lowest point of the quadratic model in a ball, whose radius follows from how well the model
    foretold the last value. Negative curvature is used, so that saddles are left.

    Args:
      solver: "exact" asks for the whole Hessian (n products with it) and solves the model by its eigenvalues, with
        More and Sorensen's hard case; "cg" asks for products alone, as many as conjugate gradients need. By default
        "exact" up to 128 parameters.

    Returns:
      The optimizer.

    Raises:
      ValueError: the solver is neither.

    References:
      More & Sorensen, "Computing a trust region step", 1983.
      Steihaug, "The conjugate gradient method and trust regions in large scale optimization", 1983.
      Conn, Gould & Toint, "Trust-region methods", 2000.
    """
    if solver not in (None, "exact", "cg"):
        raise ValueError(f'solver must be "exact" or "cg"; found {solver!r}')
    return TrustRegion(solver)
