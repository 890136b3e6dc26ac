"""L1 and L0, whose perturbations change few pixels. L0 counts array elements: each color of a pixel is one."""

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util import draws
from diffprog.attack._norms.norm import SLACK, Norm, reach_and_room, shift_towards_zero

SPARSITY = 0.01  # fraction of the elements that a step of steepest ascent in L1 changes


def _l1_measure(perturbations):
    return np.abs(np.asarray(perturbations, np.float64)).reshape(len(perturbations), -1).sum(axis=1)


def largest(magnitude: jax.Array, count) -> jax.Array:
    """Mask the `count` largest elements, exactly that many: of equal ones the first. `count` may be traced."""
    flat = magnitude.reshape(-1)
    order = jnp.argsort(-flat, stable=True)
    ranks = jnp.arange(flat.size, dtype=jnp.result_type(count))
    return jnp.zeros(flat.shape, bool).at[order].set(ranks < count).reshape(magnitude.shape)


def _l1_steepest(gradient, blocked=None):
    """Make equal steps on the largest hundredth of the gradient (SLIDE: Tramer & Boneh 2019, section 5).

    The steepest direction itself is one element, and a search along it takes as many steps as there are elements.
    Blocked elements are not counted, but pushed as the others are: the projection draws all others back.
    """
    blocked = jnp.zeros(gradient.shape, bool) if blocked is None else blocked
    count = max(1, int(SPARSITY * gradient.size))
    chosen = largest(jnp.where(blocked, -1, jnp.abs(gradient)), count) & ~blocked & (gradient != 0)
    number = jnp.sum(chosen, dtype=gradient.dtype)
    return jnp.where(chosen | blocked, jnp.sign(gradient), 0) / jnp.maximum(number, 1)


def _l1_project(point, center, epsilon, lower=0.0, upper=1.0):
    """Threshold softly, stopped by the box: each element goes clip(reach - threshold, 0, room).

    The way that all go together falls with the threshold. Bisection brackets where it is epsilon; between two
    breakpoints it is a straight line, which gives the threshold itself (Croce & Hein 2021, proposition 2.1).
    """
    direction, reach, room = reach_and_room(point, center, lower, upper)
    radius = jnp.asarray(epsilon * (1 - SLACK), point.dtype)

    def gone(threshold):
        return jnp.clip(reach - threshold, 0, room)

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        above = jnp.sum(gone(middle)) > radius
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    low, high = jax.lax.fori_loop(0, 30, halve, (jnp.zeros_like(radius), jnp.max(reach)))
    middle = (low + high) / 2
    free = (reach > middle) & (reach - middle < room)
    stopped = jnp.sum(jnp.where(reach - middle >= room, room, 0))
    line = (stopped + jnp.sum(jnp.where(free, reach, 0)) - radius) / jnp.maximum(jnp.sum(free, dtype=point.dtype), 1)
    threshold = jnp.clip(jnp.where(jnp.any(free), line, high), low, high)
    threshold = jnp.where(jnp.sum(gone(threshold)) > radius, high, threshold)
    inside = jnp.sum(gone(0.0)) <= radius
    moved = shift_towards_zero(center, jnp.sign(direction) * gone(threshold))
    return jnp.clip(jnp.where(inside, point, moved), lower, upper)


def _l1_uniform(key, shape, epsilon):
    """Draw spacings of uniform points, with random signs; the last spacing is the distance to the sphere.

    Spacings are exponentials divided by their sum.
    """
    size_key, sign_key = jax.random.split(key)
    count = int(np.prod(shape))
    spacings = draws.exponential(size_key, (count + 1,))
    signs = draws.signs(sign_key, (count,))
    return (epsilon * signs * spacings[:-1] / jnp.sum(spacings)).reshape(shape)


def _l0_measure(perturbations):
    return np.count_nonzero(np.asarray(perturbations).reshape(len(perturbations), -1), axis=1).astype(np.float64)


def _l0_steepest(gradient, blocked=None):
    """Put the whole range of a pixel on the element with the largest gradient that can follow it."""
    magnitude = jnp.abs(gradient) if blocked is None else jnp.where(blocked, -1, jnp.abs(gradient))
    return jnp.where(largest(magnitude, 1), jnp.sign(gradient), 0)


def _l0_project(point, center, epsilon, lower=0.0, upper=1.0):
    """Clip to the box, and keep the changes that go farthest.

    Keeping element i saves (way in the box)^2 less what the box cut off: elements are ranked by what they save.
    """
    boxed = jnp.clip(point, lower, upper)
    saved = (point - center) ** 2 - (point - boxed) ** 2
    return jnp.where(largest(jnp.where(boxed == center, -1, saved), jnp.floor(epsilon)), boxed, center)


def _l0_uniform(key, shape, epsilon):
    """Change random elements, as many as allowed, by a uniform amount in [-1, 1]."""
    place_key, size_key = jax.random.split(key)
    chosen = largest(draws.uniform(place_key, shape), jnp.floor(epsilon))
    return jnp.where(chosen, draws.uniform(size_key, shape, minval=-1.0), 0)


l1 = Norm(
    "l1",
    _l1_measure,
    lambda v: jnp.sum(jnp.abs(v)),
    lambda g: jnp.max(jnp.abs(g)),
    _l1_steepest,
    _l1_project,
    _l1_uniform,
    draws.normal,
)
l0 = Norm(
    "l0",
    _l0_measure,
    lambda v: jnp.sum(v != 0).astype(jnp.float32),
    lambda g: jnp.max(jnp.abs(g)),
    _l0_steepest,
    _l0_project,
    _l0_uniform,
    draws.normal,
)
