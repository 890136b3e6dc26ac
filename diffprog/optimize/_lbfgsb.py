"""L-BFGS-B (Byrd, Lu, Nocedal & Zhu 1995): minima in a box, for many problems at once, each at its own pace.

A search is a state that names the point to evaluate next, `state.point`, and takes in value and gradient there by
`update`. So a batch of searches asks for one batched evaluation a turn, although each may be at another stage: a trial
on its line, the first trial of a new line, or at rest because it is done. None sees another, and none can stop another.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util.promotion import callers_promotion, own_promotion
from diffprog._util.trees import tree_where
from diffprog.optimize import _line_search as line_search
from diffprog.optimize._box_model import Pairs, add_pair, cauchy_point, max_step, quadratic_model, subspace_minimum
from diffprog.optimize._engine import value_and_grad

SEARCHING, FLAT, SETTLED, STUCK = range(4)  # values of a status
MIN_BATCH_SIZE = 4  # searches that are worth a loop of their own, when the others are done
MESSAGES = (
    "the evaluations were used up",
    "the projected gradient is small enough",
    "the value changes no more",
    "no lower value was found along the gradient",
)


class SearchState(NamedTuple):
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

    gradient: Any = 1e-5
    value: Any = 1e-7


DEFAULT_TOLERANCES = Tolerances()


def init(point: jax.Array, history_size: int = 10) -> SearchState:
    """Begin a search at a point (n,) in the box, which is to remember `history_size` steps."""
    zeros, no_pairs = jnp.zeros_like(point), jnp.zeros((history_size, len(point)), point.dtype)
    zero, none = jnp.zeros((), point.dtype), jnp.zeros((), jnp.int32)
    pairs, line = Pairs(no_pairs, no_pairs, zero + 1), line_search.init(zero, zero, zero + 1)
    return SearchState(point, point, zero + jnp.inf, zeros, pairs, zeros, line, zero, zero, none, none, none)


def update(
    state: SearchState,
    value: jax.Array,
    gradient: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    tolerances: Tolerances = DEFAULT_TOLERANCES,
) -> SearchState:
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

    pairs = _forget(forget, pairs, largest)
    direction, new_line, pairs = _new_line(best, best_value, slopes, pairs, largest, lower, upper)
    direction, line = tree_where(accepted | forget, (direction, new_line), (state.direction, line))

    min_decrease = tolerances.value * jnp.maximum(jnp.abs(state.value), jnp.abs(value))
    flat = accepted & (slope <= tolerances.gradient * first_slope)
    promised = -line.start.slope  # of a line that goes on, or the new one: the model's decrease, and as much again
    settled = accepted & (
        (~first & (state.value - value <= min_decrease)) | (promised <= tolerances.value * jnp.abs(best_value))
    )
    stuck = (first & ~accepted) | (failed & ~forget)
    status = jnp.select([flat, settled, stuck], [FLAT, SETTLED, STUCK], SEARCHING).astype(jnp.int32)
    point = jnp.where(status == SEARCHING, jnp.clip(best + line.step * direction, lower, upper), best)
    counts = (state.num_iterations + (accepted & ~first), state.num_evaluations + 1)
    new_state = SearchState(
        point, best, best_value, slopes, pairs, direction, line, scale, first_slope, *counts, status
    )
    return tree_where(state.status == SEARCHING, new_state, state)


def _new_line(point, value, gradient, pairs, largest, lower, upper):
    """Begin a search along the direction to the model's minimum in the box.

    A model that does not lead downhill is given up for the projected gradient. Returns (direction, line, pairs).
    """
    model = quadratic_model(pairs)
    cauchy = cauchy_point(model, point, gradient, lower, upper)
    direction = subspace_minimum(model, point, gradient, cauchy, lower, upper) - point
    uphill = ~(jnp.vdot(gradient, direction) < 0)
    direction = jnp.where(uphill, jnp.clip(point - gradient / largest, lower, upper) - point, direction)
    longest = jnp.clip(max_step(point, direction, lower, upper), 1, 1e10)
    line = line_search.init(value, jnp.vdot(gradient, direction), longest)
    return direction, line, _forget(uphill, pairs, largest)


def _forget(condition, pairs, largest):
    """Drop all pairs where the condition holds, so that the next first step has length 1."""
    return tree_where(condition, jax.tree.map(jnp.zeros_like, pairs)._replace(theta=largest), pairs)


class Minimum(NamedTuple):
    """Minima of n problems of d numbers.

    Attributes:
      points: (n, d), where the lowest values were found; in the box exactly.
      values: (n,), the values there.
      num_iterations: (n,), steps of each search.
      num_evaluations: (n,), evaluations of value and gradient by each search.
      status: (n,), why each search ended, as a number; `messages` says it in words.
    """

    points: np.ndarray
    values: np.ndarray
    num_iterations: np.ndarray
    num_evaluations: np.ndarray
    status: np.ndarray

    @property
    def messages(self) -> list[str]:
        """Why each search ended."""
        return [MESSAGES[status] for status in self.status]

    @property
    def converged(self) -> np.ndarray:
        """Bool (n,): the search ended because a tolerance was met."""
        return (self.status == FLAT) | (self.status == SETTLED)


@own_promotion()
def minimize(
    fun: Callable[..., jax.Array],
    points: ArrayLike,
    lower: ArrayLike = -np.inf,
    upper: ArrayLike = np.inf,
    args: Sequence[Any] = (),
    *,
    history_size: int = 10,
    max_evaluations: int = 1000,
    tolerances: Tolerances = DEFAULT_TOLERANCES,
    engine: str = "diffprog",
) -> Minimum:
    """Minimize n functions of d numbers each in a box, in one compiled program.

    Each problem has its own curvature, line search and end, and takes no notice of the others. The program is compiled
    once for a `fun` and the shapes of its arguments: pass data that changes in `args`, not in a closure.

    Example:
      >>> bowls = lambda points, centers: jnp.sum((points - centers) ** 2, axis=1)
      >>> minimize(bowls, jnp.zeros((2, 3)), 0, 1, args=(jnp.array([[0.5], [2.0]]),)).points
      array([[0.5, 0.5, 0.5],
             [1. , 1. , 1. ]], dtype=float32)

    Args:
      fun: `fun(points, *args)`, values (n,) of points (n, d). Value i must depend on point i alone.
      points: (n, d), where to start; what lies outside the box is brought to its border. Computed in float32.
      lower: lower bounds, of a shape that broadcasts to (n, d); -inf where there is none.
      upper: upper bounds, likewise; inf where there is none.
      args: further arguments of `fun`, pytrees of arrays.
      history_size: number of steps that the model of the curvature is made of.
      max_evaluations: bound of the evaluations of value and gradient in each search; a step takes one or a few.
      tolerances: when a search is done.
      engine: whose gradients, "diffprog" or "jax".

    Returns:
      The minima, with the number of evaluations and the reason why each search ended.

    Raises:
      ValueError: shapes, bounds or numbers that cannot be used.

    References:
      R. H. Byrd, P. Lu, J. Nocedal & C. Zhu, "A limited memory algorithm for bound constrained optimization", SIAM
      Journal on Scientific Computing 16(5), 1995; J. L. Morales & J. Nocedal, "Remark on algorithm 778", ACM
      Transactions on Mathematical Software 38(1), 2011.
    """
    points = jnp.asarray(points, jnp.float32)
    lower, upper = (jnp.broadcast_to(jnp.asarray(bound, points.dtype), points.shape) for bound in (lower, upper))
    if points.ndim != 2 or not bool(jnp.all(lower <= upper)):
        raise ValueError(
            f"points must have the shape (problems, numbers) and lie in a box with lower <= upper; found "
            f"{points.shape}: add an axis for one problem, and compare the bounds"
        )
    if history_size < 1 or max_evaluations < 1:
        raise ValueError(
            f"history_size and max_evaluations must be at least 1; found {history_size} and {max_evaluations}"
        )
    points, tolerances = jnp.clip(points, lower, upper), Tolerances(*map(jnp.float32, tolerances))
    states = _search(fun, history_size, engine, points, lower, upper, tuple(args), max_evaluations, tolerances)
    results = (states.best, states.value, states.num_iterations, states.num_evaluations, states.status)
    return Minimum(*map(np.asarray, results))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _search(fun, history_size, engine, points, lower, upper, args, max_evaluations, tolerances):
    def evaluate(points):
        def total(points):
            with callers_promotion():
                values = fun(points, *args)
            if jnp.shape(values) != points.shape[:1]:
                raise ValueError(
                    f"fun must return one value for each of the {len(points)} points, an array of the shape "
                    f"{points.shape[:1]}; found {jnp.shape(values)}: sum over axis 1 alone"
                )
            values = jnp.asarray(values, points.dtype)  # wider ones, from wider `args`, would widen the search
            return values.sum(), values

        (_, values), gradients = value_and_grad(engine)(total, has_aux=True)(points)
        return values, gradients

    def search(states, num_turns, size, enough):
        """Go on with `size` searches, with all that are not done among them, until `enough` are left."""
        rows = jnp.argsort(states.status != SEARCHING)[:size]
        row_lower, row_upper = lower[rows], upper[rows]

        def turn(carry):
            active, points, num_turns = carry
            measured = (leaf[rows] for leaf in evaluate(points))
            active = jax.vmap(update, (0, 0, 0, 0, 0, None))(active, *measured, row_lower, row_upper, tolerances)
            return active, points.at[rows].set(active.point), num_turns + 1

        def unfinished(carry):
            active, _, num_turns = carry
            return (num_turns < max_evaluations) & (jnp.sum(active.status == SEARCHING) > enough)

        active = jax.tree.map(lambda leaf: leaf[rows], states)
        active, _, num_turns = jax.lax.while_loop(unfinished, turn, (active, states.point, num_turns))
        return jax.tree.map(lambda leaf, new: leaf.at[rows].set(new), states, active), num_turns

    states, num_turns, sizes = jax.vmap(lambda point: init(point, history_size))(points), 0, [len(points)]
    while sizes[-1] // 4 >= MIN_BATCH_SIZE:
        sizes.append(sizes[-1] // 4)
    for size, enough in zip(sizes, [*sizes[1:], 0], strict=True):
        states, num_turns = search(states, num_turns, size, enough)
    return states
