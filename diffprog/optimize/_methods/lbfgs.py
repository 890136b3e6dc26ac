"""L-BFGS (Nocedal 1980): minima without bounds, by the two-loop recursion."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from diffprog.optimize._methods.pairs import Pairs
from diffprog.optimize._methods.quasi_newton import Direction, QuasiNewton


def two_loop_direction(
    pairs: Pairs, point: jax.Array, gradient: jax.Array, lower: jax.Array, upper: jax.Array
) -> jax.Array:
    """Multiply minus the gradient by the inverse of the model's Hessian; empty pairs change nothing."""

    def to_older(vector, pair):
        step, change = pair
        weight = jnp.vdot(step, vector)
        return vector - weight * change, weight

    def to_newer(vector, pair):
        step, change, weight = pair
        return vector + (weight - jnp.vdot(change, vector)) * step, None

    vector, weights = jax.lax.scan(to_older, -gradient, (pairs.steps, pairs.changes), reverse=True)
    return jax.lax.scan(to_newer, vector / pairs.theta, (pairs.steps, pairs.changes, weights))[0]


@jax.tree_util.register_static
@dataclass(frozen=True)
class LBFGS(QuasiNewton):
    """The settings of `lbfgs`."""

    takes_bounds: ClassVar[bool] = False
    direction_of: ClassVar[Direction] = two_loop_direction


def lbfgs(
    *, history_size: int = 10, gradient_tolerance: float | None = None, value_tolerance: float | None = None
) -> LBFGS:
    """Minimize by L-BFGS: the quasi-Newton direction of the last steps, and a line search by the Wolfe conditions.

    A step enters the memory only if the function is convex along it. A step of the loop is one evaluation of value and
    gradient, so the rows of a batch share it, wherever each is on its line.

    Args:
      history_size: steps that the direction is made of.
      gradient_tolerance: largest element of the gradient at which to end, as a part of the first one; by default 1e-5
        in float32 and 4e-10 in float64.
      value_tolerance: decrease of an iteration at which to end, as a part of the value; by default the rounding error.

    Returns:
      An optimizer for `minimize` and `least_squares`.

    References:
      J. Nocedal, "Updating quasi-Newton matrices with limited storage", Mathematics of Computation 35(151), 1980; D. C.
      Liu & J. Nocedal, "On the limited memory BFGS method for large scale optimization", Mathematical Programming 45,
      1989.
    """
    return LBFGS(history_size, gradient_tolerance, value_tolerance)
