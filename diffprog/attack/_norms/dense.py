"""L-infinity and L2, whose perturbations change every pixel."""

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util import draws
from diffprog.attack._norms.norm import SLACK, Norm, euclidean, reach_and_room, shift_towards_zero


def _linf_measure(perturbations):
    return np.abs(np.asarray(perturbations, np.float64)).reshape(len(perturbations), -1).max(axis=1)


def _linf_project(point, center, epsilon, lower=0.0, upper=1.0):
    lower = jnp.maximum(shift_towards_zero(center, -epsilon), lower)
    upper = jnp.minimum(shift_towards_zero(center, epsilon), upper)
    return jnp.clip(point, lower, upper)


def _linf_uniform(key, shape, epsilon):
    return draws.uniform(key, shape, minval=-epsilon, maxval=epsilon)


def _l2_measure(perturbations):
    return np.linalg.norm(np.asarray(perturbations, np.float64).reshape(len(perturbations), -1), axis=1)


def _l2_steepest(gradient, blocked=None):
    largest = jnp.max(jnp.abs(gradient))
    scaled = gradient / jnp.where(largest > 0, largest, 1)  # so that no square of a tiny gradient underflows
    size = jnp.sqrt(jnp.sum(scaled**2))
    return scaled / jnp.where(size > 0, size, 1)


def _l2_project(point, center, epsilon, lower=0.0, upper=1.0):
    """Find the nearest point of ball and box: clip(center + t (point - center)) for some t in [0, 1].

    The ball's Lagrange multiplier is 1/t - 1. So only t is sought, where the distance from the center, which grows with
    t, is epsilon.

    Were the pixels that the box stops at some t the only ones that it stops, the answer would be one square root. That
    root is larger than t and may stop more pixels; from t = 0 it rises to the answer from below, in a few rounds.
    """
    direction, reach, room = reach_and_room(point, center, lower, upper)
    radius = jnp.asarray(epsilon * (1 - SLACK), point.dtype)

    def solve(t):
        stopped = t * reach >= room
        budget = radius**2 - jnp.sum(jnp.where(stopped, room, 0) ** 2)
        free = jnp.sum(jnp.where(stopped, 0, reach) ** 2)
        return jnp.where(free > 0, jnp.minimum(jnp.sqrt(jnp.maximum(budget, 0) / jnp.where(free > 0, free, 1)), 1), 1)

    def rise(pair):
        return pair[1], solve(pair[1])

    t, _ = jax.lax.while_loop(lambda pair: pair[1] > pair[0], rise, (jnp.zeros_like(radius), solve(0.0)))
    return jnp.clip(jnp.where(t < 1, shift_towards_zero(center, t * direction), point), lower, upper)


def _l2_uniform(key, shape, epsilon):
    """Draw a uniform direction at a radius whose distribution has the volume of the ball: epsilon U^(1/dimension)."""
    direction_key, radius_key = jax.random.split(key)
    direction = draws.normal(direction_key, shape)
    radius = epsilon * draws.uniform(radius_key) ** (1 / direction.size)
    return radius * direction / jnp.sqrt(jnp.sum(direction**2))


linf = Norm(
    "linf",
    _linf_measure,
    lambda v: jnp.max(jnp.abs(v)),
    lambda g: jnp.sum(jnp.abs(g)),
    lambda gradient, blocked=None: jnp.sign(gradient),
    _linf_project,
    _linf_uniform,
    lambda key, shape: draws.uniform(key, shape, minval=-1.0),
)
l2 = Norm("l2", _l2_measure, euclidean, euclidean, _l2_steepest, _l2_project, _l2_uniform, draws.normal)
