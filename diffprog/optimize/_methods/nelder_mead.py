"""The simplex search of Nelder & Mead (1965): values alone, no random draws."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from diffprog._util.numbers import check_positive
from diffprog._util.trees import tree_where
from diffprog.optimize._search.optimizer import NOT_FINITE, SEARCHING, SMALL
from diffprog.optimize._search.oracle import Counts, Oracle

FIRST_PART = 0.05  # of an element, and of 1 where it is 0: the edges of the first simplex
LENGTH_POWER, HEIGHT_POWER = 0.5, 0.75  # of the rounding error: the default tolerances


class SimplexState(NamedTuple):
    """Corners, the lowest first."""

    point: jax.Array
    value: jax.Array
    counts: Counts
    status: jax.Array
    corners: jax.Array  # (n + 1, n)
    values: jax.Array  # (n + 1,)
    edges: jax.Array  # (n,), of the first simplex
    spread: jax.Array  # of its values


@jax.tree_util.register_static
@dataclass(frozen=True)
class NelderMead:
    """The settings of `nelder_mead`."""

    adaptive: bool
    parameter_tolerance: float | None
    value_tolerance: float | None

    max_steps: ClassVar[int] = 20_000
    asks: ClassVar[str] = "function"
    takes_bounds: ClassVar[bool] = True

    def init(self, oracle: Oracle, point: jax.Array, key: jax.Array) -> SimplexState:
        """Evaluate the first simplex: the start, and it with one element changed."""
        edges = FIRST_PART * jnp.where(point == 0, 1, point)
        others = point + jnp.diag(edges)
        others = jnp.where(oracle.is_bounded & (others > oracle.upper), 2 * oracle.upper - others, others)
        corners = jnp.concatenate([point[None], jax.vmap(oracle.clip)(others)])
        values, counts = oracle.values(corners, Counts.none())
        values = _known(values)
        is_finite = jnp.isfinite(values)
        status = jnp.where(jnp.any(is_finite), SEARCHING, NOT_FINITE).astype(jnp.int32)
        highest = jnp.max(jnp.where(is_finite, values, -jnp.inf))
        corners, values = _ordered(corners, values)
        spread = jnp.where(status == SEARCHING, highest - values[0], 0)
        return SimplexState(corners[0], values[0], counts, status, corners, values, jnp.abs(edges), spread)

    def update(self, oracle: Oracle, state: SimplexState) -> SimplexState:
        """Replace the highest corner, or shrink the simplex."""
        n = len(state.point)
        grow, shorten, shrink = (1 + 2 / n, 0.75 - 1 / (2 * n), 1 - 1 / n) if self.adaptive else (2.0, 0.5, 0.5)
        center, worst = jnp.mean(state.corners[:-1], axis=0), state.corners[-1]

        def ask(factor, counts):
            """Evaluate the point across the center from the worst corner, at so many times its distance."""
            point = oracle.clip((1 + factor) * center - factor * worst)
            value, counts = oracle.value(point, counts)
            return point, _known(value), counts

        mirrored, value, counts = ask(1.0, state.counts)

        def other(counts):
            is_lowest = value < state.values[0]
            factor = jnp.where(is_lowest, grow, jnp.where(value < state.values[-1], shorten, -shorten))
            point, other_value, counts = ask(factor, counts)
            is_outside = value < state.values[-1]
            is_taken = jnp.where(is_outside, other_value <= value, other_value < state.values[-1])
            point, taken = tree_where(is_lowest & (other_value >= value), (mirrored, value), (point, other_value))
            return point, taken, is_lowest | is_taken, counts

        is_plain = (value >= state.values[0]) & (value < state.values[-2])
        point, value, is_taken, counts = jax.lax.cond(
            is_plain, lambda counts: (mirrored, value, jnp.array(True), counts), other, counts
        )

        def replaced(counts):
            return state.corners.at[-1].set(point), state.values.at[-1].set(value), counts

        def shrunk(counts):
            corners = state.corners[0] + shrink * (state.corners[1:] - state.corners[0])
            corners = jax.vmap(oracle.clip)(corners)
            values, counts = oracle.values(corners, counts)
            corners = jnp.concatenate([state.corners[:1], corners])
            return corners, jnp.append(state.values[:1], _known(values)), counts

        corners, values, counts = jax.lax.cond(is_taken, replaced, shrunk, counts)
        return self._judged(state, counts, *_ordered(corners, values))

    def _judged(self, state, counts, corners, values):
        """See whether the simplex is small."""
        eps = float(jnp.finfo(values.dtype).eps)
        lengths = eps**LENGTH_POWER if self.parameter_tolerance is None else self.parameter_tolerance
        heights = eps**HEIGHT_POWER if self.value_tolerance is None else self.value_tolerance
        is_small = jnp.all(jnp.abs(corners[1:] - corners[0]) <= lengths * state.edges)
        is_small &= values[-1] - values[0] <= jnp.maximum(heights * state.spread, 4 * eps * jnp.abs(values[0]))
        status = jnp.where(is_small, SMALL, SEARCHING).astype(jnp.int32)
        return SimplexState(corners[0], values[0], counts, status, corners, values, state.edges, state.spread)


def nelder_mead(
    *, adaptive: bool = False, parameter_tolerance: float | None = None, value_tolerance: float | None = None
) -> Any:
    """Minimize by values alone, with a simplex whose highest corner is moved across the others.

    For a few parameters and functions without a gradient; it may end where there is no minimum (McKinnon 1998). A step
    asks for one or two values; or for n more where the simplex shrinks.

    Args:
      adaptive: let expansion, contraction and shrinking depend on the dimension, which helps from about 10 on.
      parameter_tolerance: how far corners may lie from the lowest one at the end, as a part of the first simplex, whose
        edges are a twentieth of each parameter; by default the root of the rounding error.
      value_tolerance: by how much their values may differ, as a part of the first simplex's range; by default the
        rounding error to the power 0.75. Both must hold.

    Returns:
      An optimizer for `minimize`.

    Raises:
      ValueError: a tolerance is not positive.

    References:
      J. A. Nelder & R. Mead, "A simplex method for function minimization", Computer Journal 7(4), 1965; F. Gao & L.
      Han, "Implementing the Nelder-Mead simplex algorithm with adaptive parameters", Computational Optimization and
      Applications 51, 2012.
    """
    for name, tolerance in (("parameter_tolerance", parameter_tolerance), ("value_tolerance", value_tolerance)):
        if tolerance is not None:
            check_positive(tolerance, name)
    return NelderMead(bool(adaptive), parameter_tolerance, value_tolerance)


def _ordered(corners, values):
    order = jnp.argsort(values)
    return corners[order], values[order]


def _known(values):
    """Count what is not a number as higher than any."""
    return jnp.where(jnp.isnan(values), jnp.inf, values)
