"""L-BFGS-B (Byrd, Lu, Nocedal & Zhu 1995): minima in a box."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from diffprog.optimize._methods import quasi_newton
from diffprog.optimize._methods.box_model import cauchy_point, quadratic_model, subspace_minimum
from diffprog.optimize._methods.lbfgs import two_loop_direction
from diffprog.optimize._methods.pairs import Pairs
from diffprog.optimize._methods.quasi_newton import Direction, QuasiNewton, Search, Tolerances


def box_direction(pairs: Pairs, point: jax.Array, gradient: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    """Go to the lowest point of the model in the box.

    Where the model's minimum without bounds lies in the box, it is the one. The two-loop recursion finds it in fewer
    operations, and more exactly when the pairs are nearly dependent.
    """
    free = two_loop_direction(pairs, point, gradient, lower, upper)
    inside = jnp.all((lower < point + free) & (point + free < upper))
    return jax.lax.cond(inside, lambda: free, lambda: model_direction(pairs, point, gradient, lower, upper))


def model_direction(
    pairs: Pairs, point: jax.Array, gradient: jax.Array, lower: jax.Array, upper: jax.Array
) -> jax.Array:
    """Go to the lowest point of the model over the face of the box where its Cauchy point lies."""
    model = quadratic_model(pairs)
    cauchy = cauchy_point(model, point, gradient, lower, upper)
    return subspace_minimum(model, point, gradient, cauchy, lower, upper) - point


@jax.tree_util.register_static
@dataclass(frozen=True)
class LBFGSB(QuasiNewton):
    """The settings of `lbfgsb`."""

    takes_bounds: ClassVar[bool] = True
    direction_of: ClassVar[Direction] = box_direction


def lbfgsb(
    *, history_size: int = 10, gradient_tolerance: float | None = None, value_tolerance: float | None = None
) -> LBFGSB:
    """Minimize in a box by L-BFGS-B: a limited-memory model of the curvature, and its minimum in the box.

    A step is one evaluation of value and gradient, so the rows of a batch share it, wherever each is on its line.

    Args:
      history_size: steps that the model is made of.
      gradient_tolerance: largest element of the projected gradient at which to end, as a part of the first one; by
        default 1e-5 in float32 and 4e-10 in float64.
      value_tolerance: decrease of an iteration at which to end, as a part of the value; by default the rounding error.

    Returns:
      An optimizer for `minimize` and `least_squares`.

    References:
      R. H. Byrd, P. Lu, J. Nocedal & C. Zhu, "A limited memory algorithm for bound constrained optimization", SIAM
      Journal on Scientific Computing 16(5), 1995; J. L. Morales & J. Nocedal, "Remark on algorithm 778", ACM
      Transactions on Mathematical Software 38(1), 2011.
    """
    return LBFGSB(history_size, gradient_tolerance, value_tolerance)


def update(
    state: Search,
    value: jax.Array,
    gradient: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    tolerances: Tolerances,
) -> Search:
    """Take in value and gradient at `state.point`, for who evaluates by other means than an oracle."""
    return quasi_newton.update(model_direction, state, value, gradient, lower, upper, tolerances)
