"""The quadratic model of L-BFGS-B and its minimum in a box (Byrd, Lu, Nocedal & Zhu 1995), without a loop.

Near x, a function f has the model f + g.z + z.B z / 2, with B made of the last m pairs (s, y) of steps and changes of
the gradient. Pairs are stored with s.y = 1 and scaled here by the root of theta, so that all numbers are of order 1.
The paper's compact form (equation 3.2) is then theta (I - W' M W), with W = [Y; S] and the inverse of
M = [-I, L'; L, S S'], where L is the strictly lower part of S Y'. A Cholesky factor of its Schur complement,
C C' = S S' + L L', makes M a matrix of signs:

    B = theta (I + Y'Y - Z'Z),   Z = C^-1 (S + L Y).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve, solve_triangular

from diffprog.optimize._methods.pairs import Pairs


class QuadraticModel(NamedTuple):
    """B = theta (I + Y'Y - Z'Z)."""

    theta: jax.Array
    y: jax.Array  # (m, n)
    z: jax.Array  # (m, n)

    def multiply(self, vector: jax.Array) -> jax.Array:
        """Multiply B by a vector."""
        return self.theta * (vector + (self.y @ vector) @ self.y - (self.z @ vector) @ self.z)


def quadratic_model(pairs: Pairs) -> QuadraticModel:
    """Make the model of these pairs."""
    root = jnp.sqrt(pairs.theta)
    steps, changes = pairs.steps * root, pairs.changes / root
    lower_part = jnp.tril(steps @ changes.T, -1)
    squares = steps @ steps.T
    empty = jnp.diag((jnp.diag(squares) == 0).astype(squares.dtype))
    factor = jnp.linalg.cholesky(squares + lower_part @ lower_part.T + empty)
    inverse = solve_triangular(factor, jnp.eye(len(steps), dtype=steps.dtype), lower=True)
    return QuadraticModel(pairs.theta, changes, inverse @ (steps + lower_part @ changes))


def cauchy_point(
    model: QuadraticModel, point: jax.Array, gradient: jax.Array, lower: jax.Array, upper: jax.Array
) -> jax.Array:
    """Find the first local minimum of the model along the path of steepest descent that the box bends (section 4).

    The path is straight between the times at which elements meet their bounds. The paper walks from one to the next
    until the model rises; here slope and curvature at all of them come from running sums at once.
    """
    bound = jnp.where(gradient < 0, upper, lower)
    times = jnp.where(gradient != 0, (point - bound) / jnp.where(gradient != 0, gradient, 1), jnp.inf)
    direction = jnp.where(times > 0, -gradient, 0)
    order = jnp.argsort(times)
    sorted_times = times[order]
    moving = _suffix_sums(direction[order] ** 2)  # g.g of what still moves
    finite_times = jnp.where(jnp.isfinite(sorted_times), sorted_times, 0)
    # Between two times: slope = theta (curvature t - rise), with t the time since the start.
    rise, curvature = moving / model.theta, moving
    for sign, rows in ((1, model.y), (-1, model.z)):
        products = (rows * direction)[:, order]
        of_moving = _suffix_sums(products)  # the rows times the direction
        of_stopped = _prefix_sums(finite_times * products)  # the rows times how far the stopped elements went
        rise -= sign * jnp.sum(of_moving * of_stopped, axis=0)
        curvature += sign * jnp.sum(of_moving**2, axis=0)
    curvature = jnp.maximum(curvature, 8 * jnp.finfo(moving.dtype).eps * moving)
    first, last = jnp.append(0, sorted_times), jnp.append(sorted_times, jnp.inf)
    lowest = jnp.maximum(jnp.where(curvature > 0, rise / jnp.where(curvature > 0, curvature, 1), 0), first)
    segment = jnp.argmax((last > first) & (lowest < last))
    time = lowest[segment]
    return jnp.where(times <= time, bound, jnp.clip(point + time * direction, lower, upper))


def subspace_minimum(
    model: QuadraticModel, point: jax.Array, gradient: jax.Array, cauchy: jax.Array, lower: jax.Array, upper: jax.Array
) -> jax.Array:
    """Find the lowest point of the model over the elements that the Cauchy point leaves free, in the box.

    Direct primal method (section 5.1). The minimum is projected on the box; if that does not lead downhill, the step is
    shortened instead, as in version 3.0 of the authors' program (Morales & Nocedal 2011).
    """
    free = (cauchy > lower) & (cauchy < upper)
    residual = jnp.where(free, gradient + model.multiply(cauchy - point), 0)
    step = -_solve(model._replace(y=model.y * free, z=model.z * free), residual)
    step = jnp.where(free & jnp.all(jnp.isfinite(step)), step, 0)
    projected = jnp.clip(cauchy + step, lower, upper)
    shortened = jnp.clip(cauchy + jnp.minimum(1, max_step(cauchy, step, lower, upper)) * step, lower, upper)
    return jnp.where(jnp.vdot(gradient, projected - point) < 0, projected, shortened)


def _solve(model: QuadraticModel, vector: jax.Array) -> jax.Array:
    """Compute B^-1 vector with the formula of Sherman, Morrison & Woodbury and two Cholesky factors of size m."""
    identity = jnp.eye(len(model.y), dtype=vector.dtype)
    y_vector, z_vector = model.y @ vector, model.z @ vector
    cross = model.y @ model.z.T
    y_factor = cho_factor(identity + model.y @ model.y.T)
    solved = cho_solve(y_factor, jnp.concatenate([cross, y_vector[:, None]], axis=1))
    z_factor = cho_factor(identity - model.z @ model.z.T + cross.T @ solved[:, :-1])
    z_part = cho_solve(z_factor, cross.T @ solved[:, -1] - z_vector)
    y_part = solved[:, -1] - solved[:, :-1] @ z_part
    return (vector - y_part @ model.y - z_part @ model.z) / model.theta


def max_step(point: jax.Array, direction: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    """Compute how many times a direction can be added to a point before an element leaves the box."""
    bound = jnp.where(direction > 0, upper, lower)
    return jnp.min(jnp.where(direction != 0, (bound - point) / jnp.where(direction != 0, direction, 1), jnp.inf))


def _suffix_sums(values):
    """Sum each element and all later ones; append 0."""
    return jnp.flip(_prefix_sums(jnp.flip(values, -1)), -1)


BLOCK_SIZE = 16  # elements that a product with a triangle sums up: on a CPU, faster than one after the other


def _prefix_sums(values):
    """Sum all earlier elements of each element; append the sum of all."""
    size = values.shape[-1]
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, -size % BLOCK_SIZE)])
    blocks = padded.reshape(*values.shape[:-1], -1, BLOCK_SIZE)
    within = blocks @ jnp.triu(jnp.ones((BLOCK_SIZE, BLOCK_SIZE), values.dtype))
    before = jnp.cumsum(within[..., -1], axis=-1) - within[..., -1]
    sums = (within + before[..., None]).reshape(padded.shape)[..., :size]
    return jnp.concatenate([jnp.zeros_like(sums[..., :1]), sums], axis=-1)
