"""Random search: draw near the best point, keep what is lower, and let the success decide how near."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from diffprog._util.numbers import check_count, check_positive
from diffprog.optimize._methods.cma_distribution import first_scale
from diffprog.optimize._search.optimizer import NOT_FINITE, SEARCHING, SHORT
from diffprog.optimize._search.oracle import Counts, Oracle

SUCCESS = 1 / 5  # part of the draws that should be lower: near the best on a sphere (Rechenberg 1973)
TOLERANCE_POWER = 0.75  # of the rounding error: the factor of the first scale at which to end


class RandomSearchState(NamedTuple):
    """The best point, and how far from it to draw."""

    point: jax.Array
    value: jax.Array
    counts: Counts
    status: jax.Array
    key: jax.Array
    scale: jax.Array  # (n,), the first standard deviations
    factor: jax.Array  # of the scale


@jax.tree_util.register_static
@dataclass(frozen=True)
class RandomSearch:
    """The settings of `random_search`."""

    sigma: float | None
    num_points: int

    max_steps: ClassVar[int] = 10_000
    asks: ClassVar[str] = "function"
    takes_bounds: ClassVar[bool] = True

    def init(self, oracle: Oracle, point: jax.Array, key: jax.Array) -> RandomSearchState:
        """Evaluate the start."""
        value, counts = oracle.value(point, Counts.none())
        value = jnp.where(jnp.isnan(value), jnp.inf, value)
        status = jnp.full((), SEARCHING, jnp.int32)
        scale = first_scale(self.sigma, point, oracle.lower, oracle.upper)
        return RandomSearchState(point, value, counts, status, key, scale, jnp.ones_like(value))

    def update(self, oracle: Oracle, state: RandomSearchState) -> RandomSearchState:
        """Evaluate draws around the best point."""
        n = len(state.point)
        key, draw = jax.random.split(state.key)
        normal = jax.random.normal(draw, (self.num_points, n), state.point.dtype)
        points = oracle.clip(state.point + state.factor * state.scale * normal)
        values, counts = oracle.values(points, state.counts)
        values = jnp.where(jnp.isnan(values), jnp.inf, values)
        lowest = jnp.argmin(values)
        is_lower = values[lowest] < state.value
        succeeded = jnp.mean((values < state.value).astype(values.dtype))
        factor = state.factor * jnp.exp((succeeded - SUCCESS) / (1 - SUCCESS) / (1 + n / 2))
        point, value = (
            jnp.where(is_lower, new, old) for new, old in ((points[lowest], state.point), (values[lowest], state.value))
        )
        is_over = factor <= jnp.finfo(value.dtype).eps ** TOLERANCE_POWER
        ends = [is_over & ~jnp.isfinite(value), is_over]
        status = jnp.select(ends, [NOT_FINITE, SHORT], SEARCHING).astype(jnp.int32)
        return RandomSearchState(point, value, counts, status, key, state.scale, factor)


def random_search(*, sigma: float | None = None, num_points: int = 1) -> Any:
    """Minimize by values alone: draw points around the best one, and move to a lower one.

    The distance grows while more than a fifth of the draws are lower, and shrinks while fewer are. It knows one scale
    for all directions: what `cma_es` learns beyond that shows beside it.

    Args:
      sigma: standard deviation of the first draws, for each parameter; by default a quarter of the box, or of the
        parameter itself, or of 1.
      num_points: draws in a step.

    Returns:
      An optimizer for `minimize`.

    Raises:
      ValueError: sigma is not positive, or there is no point.

    References:
      L. A. Rastrigin, "The convergence of the random search method in the extremal control of a many parameter system",
      Automation and Remote Control 24, 1963; I. Rechenberg, "Evolutionsstrategie", 1973.
    """
    if sigma is not None:
        check_positive(sigma, "sigma")
    return RandomSearch(sigma, check_count(num_points, "num_points"))
