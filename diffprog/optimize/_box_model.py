"""The quadratic model of L-BFGS-B and its minimum in a box (Byrd, Lu, Nocedal & Zhu 1995), without a loop.

Of a function f near x the model is f + g.z + z.B z / 2, with B made of the last m pairs (s, y) of steps and changes of
the gradient. Pairs are kept with s.y = 1 and scaled here by the root of theta, so that all numbers are of order 1.
The paper's compact form (equation 3.2) is then theta (I - W' M W), with W = [Y; S] and the inverse of
M = [-I, L'; L, S S'], where L is the strictly lower part of S Y'. A Cholesky factor of its Schur complement,
C C' = S S' + L L', makes M a matrix of signs:

    B = theta (I + Y'Y - Z'Z),   Z = C^-1 (S + L Y).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve, solve_triangular


class Pairs(NamedTuple):
    """The memory: the newest pair last, empty places zero."""

    steps: jax.Array  # [m, n], s / sqrt(s.y)
    changes: jax.Array  # [m, n], y / sqrt(s.y)
    theta: jax.Array  # y.y / s.y of the newest pair


class Model(NamedTuple):
    """B = theta (I + more' more - less' less)."""

    theta: jax.Array
    more: jax.Array  # Y, [m, n]
    less: jax.Array  # Z, [m, n]

    def times(self, vector):
        """B vector."""
        return self.theta * (vector + (self.more @ vector) @ self.more - (self.less @ vector) @ self.less)


def quadratic(pairs: Pairs) -> Model:
    """The model of these pairs."""
    root = jnp.sqrt(pairs.theta)
    steps, changes = pairs.steps * root, pairs.changes / root
    older = jnp.tril(steps @ changes.T, -1)
    squares = steps @ steps.T
    empty = jnp.diag((jnp.diag(squares) == 0).astype(squares.dtype))
    factor = jnp.linalg.cholesky(squares + older @ older.T + empty)
    inverse = solve_triangular(factor, jnp.eye(len(steps), dtype=steps.dtype), lower=True)
    return Model(pairs.theta, changes, inverse @ (steps + older @ changes))


def cauchy_point(model: Model, point, gradient, lower, upper):
    """The first local minimum of the model along the path of steepest descent that the box bends (section 4).

    The path is straight between the times at which elements meet their bounds. The paper walks from one to the next
    until the model rises; here slope and curvature at all of them come from running sums at once.
    """
    bound = jnp.where(gradient < 0, upper, lower)
    times = jnp.where(gradient != 0, (point - bound) / jnp.where(gradient != 0, gradient, 1), jnp.inf)
    direction = jnp.where(times > 0, -gradient, 0)
    order = jnp.argsort(times)
    meet = times[order]
    moving = _from_here_on(direction[order] ** 2)  # g.g of what still moves
    when = jnp.where(jnp.isfinite(meet), meet, 0)
    # Between two times: slope = theta (curvature t - rise), with t the time since the start.
    rise, curvature = moving / model.theta, moving
    for sign, rows in ((1, model.more), (-1, model.less)):
        way = (rows * direction)[:, order]
        moved = _from_here_on(way)  # the rows times the direction
        stopped = _before_here(when * way)  # the rows times the way of what has stopped
        rise -= sign * jnp.sum(moved * stopped, axis=0)
        curvature += sign * jnp.sum(moved**2, axis=0)
    curvature = jnp.maximum(curvature, 1e-6 * moving)
    first, last = jnp.append(0, meet), jnp.append(meet, jnp.inf)
    lowest = jnp.maximum(jnp.where(curvature > 0, rise / jnp.where(curvature > 0, curvature, 1), 0), first)
    here = jnp.argmax((last > first) & (lowest < last))
    time = lowest[here]
    return jnp.where(times <= time, bound, jnp.clip(point + time * direction, lower, upper))


def subspace_minimum(model: Model, point, gradient, cauchy, lower, upper):
    """The lowest point of the model over the elements that the Cauchy point leaves free, brought into the box.

    Direct primal method (section 5.1). The minimum is projected on the box, and where that does not lead downhill the
    way to it is cut instead, as in version 3.0 of the authors' program (Morales & Nocedal 2011).
    """
    free = (cauchy > lower) & (cauchy < upper)
    residual = jnp.where(free, gradient + model.times(cauchy - point), 0)
    way = -_inverse_times(model._replace(more=model.more * free, less=model.less * free), residual)
    way = jnp.where(free & jnp.all(jnp.isfinite(way)), way, 0)
    projected = jnp.clip(cauchy + way, lower, upper)
    cut = jnp.clip(cauchy + jnp.minimum(1, room(cauchy, way, lower, upper)) * way, lower, upper)
    return jnp.where(jnp.vdot(gradient, projected - point) < 0, projected, cut)


def _inverse_times(model: Model, vector):
    """B^-1 vector, by the formula of Sherman, Morrison & Woodbury and two Cholesky factors of m x m matrices."""
    unit = jnp.eye(len(model.more), dtype=vector.dtype)
    more, less = model.more @ vector, model.less @ vector
    cross = model.more @ model.less.T
    upper = cho_factor(unit + model.more @ model.more.T)
    solved = cho_solve(upper, jnp.concatenate([cross, more[:, None]], axis=1))
    lower = cho_factor(unit - model.less @ model.less.T + cross.T @ solved[:, :-1])
    back = cho_solve(lower, cross.T @ solved[:, -1] - less)
    ahead = solved[:, -1] - solved[:, :-1] @ back
    return (vector - ahead @ model.more - back @ model.less) / model.theta


def room(point, way, lower, upper):
    """How many times `way` can be gone from `point` before an element leaves the box."""
    bound = jnp.where(way > 0, upper, lower)
    return jnp.min(jnp.where(way != 0, (bound - point) / jnp.where(way != 0, way, 1), jnp.inf))


def remembered(pairs: Pairs, step, change) -> Pairs:
    """The pairs with one more, instead of the oldest; unchanged where the function is not convex along the step."""
    product, squares = jnp.vdot(step, change), jnp.vdot(change, change)
    convex = product > 1e-7 * jnp.sqrt(squares * jnp.vdot(step, step))
    scale = jnp.sqrt(jnp.where(convex, product, 1))

    def push(kept, new):
        return jnp.where(convex, jnp.concatenate([kept[1:], new[None] / scale]), kept)

    theta = jnp.where(convex, squares / jnp.where(convex, product, 1), pairs.theta)
    return Pairs(push(pairs.steps, step), push(pairs.changes, change), theta)


def _from_here_on(values):
    """Sums over an element and all later ones, and 0 after the last."""
    return jnp.flip(_before_here(jnp.flip(values, -1)), -1)


BLOCK = 16  # elements that a product with a triangle sums up: on a CPU, faster than one after the other


def _before_here(values):
    """Sums over all earlier elements; the last, over all."""
    count = values.shape[-1]
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, -count % BLOCK)])
    blocks = padded.reshape(*values.shape[:-1], -1, BLOCK)
    within = blocks @ jnp.triu(jnp.ones((BLOCK, BLOCK), values.dtype))
    before = jnp.cumsum(within[..., -1], axis=-1) - within[..., -1]
    sums = (within + before[..., None]).reshape(padded.shape)[..., :count]
    return jnp.concatenate([jnp.zeros_like(sums[..., :1]), sums], axis=-1)
