"""Norms as values: what an attack must know of the ball that it searches.

Every function works on ONE example of any shape, in float32; attacks map them over a batch. A projection lands in the
ball *and* in the box [0, 1] of images, at the nearest point of the two together, and never exceeds the budget by a
rounding error: |adversarial - image| <= epsilon holds for the float32 numbers that are returned, in exact arithmetic
and when the difference is taken in float32.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Norm(NamedTuple):
    """A ball's geometry.

    measure:   perturbation -> its size, in float64 on the host; leading axis: examples.
    steepest:  gradient -> the perturbation of size 1 along which the value rises fastest; 0 where the gradient is 0.
    project:   (point, centre, epsilon) -> the nearest image to `point` at most epsilon from the image `centre`.
    uniform:   (key, shape, epsilon) -> a perturbation drawn uniformly from the ball.
    """

    name: str
    measure: Callable
    steepest: Callable
    project: Callable
    uniform: Callable


def shift_towards_zero(centre, shift):
    """`centre + shift`, rounded towards `centre`: the result is at most |shift| away from it, exactly.

    Knuth's TwoSum (The Art of Computer Programming 2, section 4.2.2) yields the rounding error of the sum, and where
    the sum went too far it steps back to the neighbouring float.
    """
    total = centre + shift
    moved = total - centre
    error = (centre - (total - moved)) + (shift - moved)  # the exact sum minus `total`
    too_far = jnp.where(shift > 0, error < 0, error > 0)
    return jnp.where(too_far, jnp.nextafter(total, centre), total)


def _linf_measure(perturbations):
    return np.abs(np.asarray(perturbations, np.float64)).reshape(len(perturbations), -1).max(axis=1)


def _linf_project(point, centre, epsilon):
    lower = jnp.maximum(shift_towards_zero(centre, -epsilon), 0)
    upper = jnp.minimum(shift_towards_zero(centre, epsilon), 1)
    return jnp.clip(point, lower, upper)


def _linf_uniform(key, shape, epsilon):
    return jax.random.uniform(key, shape, minval=-epsilon, maxval=epsilon)


def _l2_measure(perturbations):
    return np.linalg.norm(np.asarray(perturbations, np.float64).reshape(len(perturbations), -1), axis=1)


def _l2_steepest(gradient):
    largest = jnp.max(jnp.abs(gradient))
    scaled = gradient / jnp.where(largest > 0, largest, 1)  # so that no square of a tiny gradient underflows
    size = jnp.sqrt(jnp.sum(scaled**2))
    return scaled / jnp.where(size > 0, size, 1)


SLACK = 1e-5  # relative: more than float32 sums of millions of squares are wrong by


def _l2_project(point, centre, epsilon):
    """The nearest point of ball and box is clip(centre + t (point - centre)) for some t in [0, 1] (the ball's Lagrange
    multiplier is 1/t - 1). So only t is sought: where the distance from the centre, which grows with t, is epsilon.

    Were the pixels that the box stops at some t the only ones that it stops, the answer would be one square root. That
    root is larger than t and may stop more pixels; from t = 0 it rises to the answer from below, in a few rounds.
    """
    direction = point - centre
    reach = jnp.abs(direction)
    room = jnp.where(direction > 0, 1 - centre, centre)
    radius = epsilon * (1 - SLACK)

    def solve(t):
        stopped = t * reach >= room
        budget = radius**2 - jnp.sum(jnp.where(stopped, room, 0) ** 2)
        free = jnp.sum(jnp.where(stopped, 0, reach) ** 2)
        return jnp.where(free > 0, jnp.minimum(jnp.sqrt(jnp.maximum(budget, 0) / jnp.where(free > 0, free, 1)), 1), 1)

    def rise(pair):
        return pair[1], solve(pair[1])

    t, _ = jax.lax.while_loop(lambda pair: pair[1] > pair[0], rise, (jnp.zeros_like(epsilon), solve(0.0)))
    return jnp.clip(jnp.where(t < 1, shift_towards_zero(centre, t * direction), point), 0, 1)


def _l2_uniform(key, shape, epsilon):
    """A uniform direction at a radius whose distribution has the volume of the ball: epsilon U^(1/dimension)."""
    direction_key, radius_key = jax.random.split(key)
    direction = jax.random.normal(direction_key, shape)
    radius = epsilon * jax.random.uniform(radius_key) ** (1 / direction.size)
    return radius * direction / jnp.sqrt(jnp.sum(direction**2))


linf = Norm("linf", _linf_measure, jnp.sign, _linf_project, _linf_uniform)
l2 = Norm("l2", _l2_measure, _l2_steepest, _l2_project, _l2_uniform)
