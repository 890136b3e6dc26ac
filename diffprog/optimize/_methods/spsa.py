"""SPSA (Spall 1992): descent along a gradient that two values estimate, whatever the dimension."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from diffprog._util.draws import signs
from diffprog._util.numbers import check_positive
from diffprog.optimize._search.optimizer import NOT_FINITE, SEARCHING
from diffprog.optimize._search.oracle import Counts, Oracle

STEP_POWER, PERTURBATION_POWER = 0.602, 0.101  # Spall's: the slowest decay for which convergence is proved
NUM_FIRST = 5  # estimates that the first gain is taken from


class SPSAState(NamedTuple):
    """An iterate that is never evaluated itself, and the best point that was."""

    point: jax.Array
    value: jax.Array
    counts: Counts
    status: jax.Array
    key: jax.Array
    iterate: jax.Array
    gain: jax.Array  # a
    num_steps: jax.Array  # int32


@jax.tree_util.register_static
@dataclass(frozen=True)
class SPSA:
    """The settings of `spsa`."""

    step: float
    perturbation: float
    stability: float

    max_steps: ClassVar[int] = 1000
    asks: ClassVar[str] = "function"
    takes_bounds: ClassVar[bool] = True

    def init(self, oracle: Oracle, point: jax.Array, key: jax.Array) -> SPSAState:
        """Evaluate the start, and estimate how large gradients are there."""
        value, counts = oracle.value(point, Counts.none())
        status = jnp.where(jnp.isfinite(value), SEARCHING, NOT_FINITE).astype(jnp.int32)
        state = SPSAState(point, value, counts, status, key, point, jnp.ones_like(value), jnp.zeros((), jnp.int32))
        sizes = []
        for _ in range(NUM_FIRST):
            gradient, state = self._estimate(oracle, state)
            sizes.append(jnp.mean(jnp.abs(gradient)))
        size = jnp.mean(jnp.stack(sizes))
        gain = self.step * (self.stability + 1) ** STEP_POWER / jnp.where(size > 0, size, 1)
        return state._replace(gain=gain)

    def update(self, oracle: Oracle, state: SPSAState) -> SPSAState:
        """Estimate the gradient, and go against it."""
        gradient, state = self._estimate(oracle, state)
        rate = state.gain / (state.num_steps + 1 + self.stability) ** STEP_POWER
        change = jnp.clip(rate * gradient, -self.step, self.step)
        return state._replace(iterate=oracle.clip(state.iterate - change), num_steps=state.num_steps + 1)

    def _estimate(self, oracle: Oracle, state: SPSAState) -> tuple[jax.Array, SPSAState]:
        """Compare the values on both sides of the iterate; take note of the lower one."""
        key, draw = jax.random.split(state.key)
        reach = self.perturbation / (state.num_steps + 1) ** PERTURBATION_POWER
        shift = reach * signs(draw, state.point.shape).astype(state.point.dtype)
        points = oracle.clip(jnp.stack([state.iterate + shift, state.iterate - shift]))
        values, counts = oracle.values(points, state.counts)
        apart = points[0] - points[1]
        slopes = (values[0] - values[1]) / jnp.where(apart != 0, apart, 1)
        gradient = jnp.where((apart != 0) & jnp.isfinite(slopes), slopes, 0)
        values = jnp.where(jnp.isnan(values), jnp.inf, values)
        lowest = jnp.argmin(values)
        is_lower = values[lowest] < state.value
        point, value = (
            jnp.where(is_lower, new, old) for new, old in ((points[lowest], state.point), (values[lowest], state.value))
        )
        return gradient, state._replace(point=point, value=value, counts=counts, key=key)


def spsa(*, step: float = 0.1, perturbation: float = 1e-2, stability: float = 100.0) -> Any:
    """Descend along a gradient estimated by two values: simultaneous perturbation stochastic approximation.

    All parameters are moved at once, up and down at random, and both values give the slope along that direction: two
    evaluations a step in any dimension. Made for noisy functions. The iterate itself is not evaluated; the result is
    the lowest point that was.

    Args:
      step: about how far a parameter moves in the first step, and the most that it moves in any; the gain is set by
        five estimates at the start.
      perturbation: how far parameters are moved to compare values: about what makes a difference as large as the
        noise. It falls as k^-0.101, and the gain as (k + stability)^-0.602.
      stability: steps before the gain begins to fall.

    Returns:
      An optimizer for `minimize`.

    Raises:
      ValueError: a number is not positive.

    References:
      J. C. Spall, "Multivariate stochastic approximation using a simultaneous perturbation gradient approximation",
      IEEE Transactions on Automatic Control 37(3), 1992; J. C. Spall, "Implementation of the simultaneous perturbation
      algorithm for stochastic optimization", IEEE Transactions on Aerospace and Electronic Systems 34(3), 1998.
    """
    for name, number in (("step", step), ("perturbation", perturbation), ("stability", stability)):
        check_positive(number, name)
    return SPSA(float(step), float(perturbation), float(stability))
