"""L-BFGS-B (Byrd, Lu, Nocedal & Zhu 1995): minima in a box, for many problems at once, each at its own pace.

A search is a state that says where it wants to know the function, `state.point`, and is told value and gradient by
`advance`. So a batch of searches asks for one batched evaluation a turn, whatever each is doing: trying a step along
its line, beginning a new one, or resting because it is done. None sees another, and none can stop another.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.optimize import _line_search as line_search
from diffprog.optimize._box_model import Pairs, cauchy_point, quadratic, remembered, room, subspace_minimum
from diffprog.optimize._engine import value_and_grad

SEARCHING, FLAT, SETTLED, STUCK = range(4)  # what a status says
FEWEST = 4  # searches that are worth a loop of their own, when the others are done
MESSAGES = (
    "the evaluations were used up",
    "the projected gradient is small enough",
    "the value changes no more",
    "no lower value was found along the gradient",
)


class State(NamedTuple):
    """A search for ONE minimum among n numbers."""

    point: jax.Array  # [n], where to evaluate next: always in the box
    best: jax.Array  # [n], the iterate, which has the lowest value so far
    value: jax.Array  # there
    gradient: jax.Array
    pairs: Pairs
    direction: jax.Array
    line: line_search.LineSearch
    scale: jax.Array  # the largest element of the first gradient
    first_slope: jax.Array  # the first projected gradient
    iterations: jax.Array  # int32
    evaluations: jax.Array
    status: jax.Array  # int32


class Tolerances(NamedTuple):
    """When a search is done. Both are relative, so a multiple of the function has the same search.

    gradient: the largest element of the projected gradient, as a part of the first one.
    value:    the decrease of an iteration, found or promised by the model, as a part of the value.
    """

    gradient: Any = 1e-5
    value: Any = 1e-7


DEFAULT_TOLERANCES = Tolerances()


def start(point, memory: int = 10) -> State:
    """A search from `point` [n], which lies in the box; it remembers `memory` steps."""
    zero, none = jnp.zeros_like(point), jnp.zeros((memory, len(point)), point.dtype)
    number, count = jnp.zeros((), point.dtype), jnp.zeros((), jnp.int32)
    return State(
        point,
        point,
        number + jnp.inf,
        zero,
        Pairs(none, none, number + 1),
        zero,
        line_search.begin(number, number, number + 1),
        number,
        number,
        count,
        count,
        count,
    )


def advance(state: State, value, gradient, lower, upper, tolerances=DEFAULT_TOLERANCES) -> State:
    """The search after `value` and `gradient` were found at `state.point`; once it is done it stays as it is."""
    fresh = state.evaluations == 0
    line, accepted, failed = line_search.proceed(state.line, value, jnp.vdot(gradient, state.direction))
    accepted = (accepted | fresh) & jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
    forget = fresh | (failed & jnp.any(state.pairs.steps))  # a bad model may have made the direction: once more without

    def pick(new, old):
        return jax.tree.map(lambda n, o: jnp.where(accepted, n, o), new, old)

    best, now, slopes = pick((state.point, value, gradient), (state.best, state.value, state.gradient))
    step, change = state.point - state.best, gradient - state.gradient
    pairs = pick(remembered(state.pairs, step, change), state.pairs)
    largest = jnp.maximum(jnp.max(jnp.abs(slopes)), jnp.finfo(value.dtype).tiny)
    scale = jnp.where(fresh, largest, state.scale)
    slope = jnp.max(jnp.abs(jnp.clip(best - slopes / scale, lower, upper) - best))
    first_slope = jnp.where(fresh, slope, state.first_slope)

    pairs = jax.tree.map(lambda kept: jnp.where(forget, 0, kept), pairs)
    pairs = pairs._replace(theta=jnp.where(forget, largest, pairs.theta))  # a first step of length 1
    direction, began, pairs = _line(best, now, slopes, pairs, largest, lower, upper)
    anew = accepted | forget
    direction = jnp.where(anew, direction, state.direction)
    line = jax.tree.map(lambda new, old: jnp.where(anew, new, old), began, line)

    least = tolerances.value * jnp.maximum(jnp.abs(state.value), jnp.abs(value))
    flat = accepted & (slope <= tolerances.gradient * first_slope)
    promised = -line.start.slope  # of a line that goes on, or the new one: the model's decrease, and as much again
    settled = accepted & ((~fresh & (state.value - value <= least)) | (promised <= tolerances.value * jnp.abs(now)))
    stuck = (fresh & ~accepted) | (failed & ~forget)
    status = jnp.select([flat, settled, stuck], [FLAT, SETTLED, STUCK], SEARCHING).astype(jnp.int32)
    point = jnp.where(status == SEARCHING, jnp.clip(best + line.step * direction, lower, upper), best)
    new = State(
        point,
        best,
        now,
        slopes,
        pairs,
        direction,
        line,
        scale,
        first_slope,
        state.iterations + (accepted & ~fresh),
        state.evaluations + 1,
        status,
    )
    return jax.tree.map(lambda n, o: jnp.where(state.status == SEARCHING, n, o), new, state)


def _line(point, value, gradient, pairs, largest, lower, upper):
    """The direction to the model's minimum in the box, and a search along it. Should the model not lead downhill, it is
    given up for the projected gradient."""
    model = quadratic(pairs)
    cauchy = cauchy_point(model, point, gradient, lower, upper)
    direction = subspace_minimum(model, point, gradient, cauchy, lower, upper) - point
    uphill = ~(jnp.vdot(gradient, direction) < 0)
    direction = jnp.where(uphill, jnp.clip(point - gradient / largest, lower, upper) - point, direction)
    pairs = jax.tree.map(lambda kept: jnp.where(uphill, 0, kept), pairs)
    pairs = pairs._replace(theta=jnp.where(uphill, largest, pairs.theta))
    longest = jnp.clip(room(point, direction, lower, upper), 1, 1e10)
    return direction, line_search.begin(value, jnp.vdot(gradient, direction), longest), pairs


class Minimum(NamedTuple):
    """Minima of n problems; `MESSAGES[status]` says why a search ended."""

    points: np.ndarray  # [n, d], in the box exactly
    values: np.ndarray  # [n]
    iterations: np.ndarray  # int [n]
    evaluations: np.ndarray  # int [n], of value and gradient
    status: np.ndarray  # int [n]


def minimize(
    fun: Callable,
    points,
    lower=-np.inf,
    upper=np.inf,
    args=(),
    *,
    memory: int = 10,
    evaluations: int = 1000,
    tolerances=DEFAULT_TOLERANCES,
    engine: str = "diffprog",
) -> Minimum:
    """Minimize n functions of d numbers each in a box, in one compiled program.

    fun:         `fun(points [n, d], *args) -> [n]`; row i must depend on row i of the points only.
    points:      [n, d], where to start; what lies outside the box is brought to its border.
    lower:       the box, of a shape that broadcasts to [n, d]; infinite where there is no bound.
    evaluations: at most so many for each problem; another search along its line takes one or a few.
    """
    points = jnp.asarray(points, jnp.float32)
    lower, upper = (jnp.broadcast_to(jnp.asarray(bound, points.dtype), points.shape) for bound in (lower, upper))
    if points.ndim != 2 or not bool(jnp.all(lower <= upper)):
        raise ValueError(
            f"points must have the shape (problems, numbers) and lie in a box with lower <= upper; found "
            f"{points.shape}: add an axis for one problem, and compare the bounds"
        )
    states = _program(fun, memory, engine)(
        jnp.clip(points, lower, upper),
        lower,
        upper,
        tuple(args),
        evaluations,
        Tolerances(*map(jnp.float32, tolerances)),
    )
    return Minimum(*map(np.asarray, (states.best, states.value, states.iterations, states.evaluations, states.status)))


@lru_cache(maxsize=32)
def _program(fun, memory, engine):
    def evaluate(points, args):
        def total(points):
            values = fun(points, *args)
            return values.sum(), values

        (_, values), gradients = value_and_grad(engine)(total, has_aux=True)(points)
        return values, gradients

    def run(points, lower, upper, args, evaluations, tolerances):
        def search(states, turns, size, enough):
            """All states, after `size` of them, with all that still search, went on until `enough` do."""
            rows = jnp.argsort(states.status != SEARCHING)[:size]
            low, high = lower[rows], upper[rows]

            def turn(carry):
                few, points, turns = carry
                found = (leaf[rows] for leaf in evaluate(points, args))
                few = jax.vmap(advance, (0, 0, 0, 0, 0, None))(few, *found, low, high, tolerances)
                return few, points.at[rows].set(few.point), turns + 1

            def go_on(carry):
                return (carry[2] < evaluations) & (jnp.sum(carry[0].status == SEARCHING) > enough)

            few = jax.tree.map(lambda leaf: leaf[rows], states)
            few, _, turns = jax.lax.while_loop(go_on, turn, (few, states.point, turns))
            return jax.tree.map(lambda leaf, new: leaf.at[rows].set(new), states, few), turns

        states, turns, sizes = jax.vmap(lambda point: start(point, memory))(points), 0, [len(points)]
        while sizes[-1] // 4 >= FEWEST:
            sizes.append(sizes[-1] // 4)
        for size, enough in zip(sizes, [*sizes[1:], 0], strict=True):
            states, turns = search(states, turns, size, enough)
        return states

    return jax.jit(run)
