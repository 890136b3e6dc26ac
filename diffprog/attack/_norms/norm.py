"""What an attack must know of a norm, and arithmetic that never rounds outwards.

Every function of a `Norm` works on ONE example of any shape, in float32; attacks map them over a batch. A projection
lands in the ball *and* in the box [lower, upper], at the nearest point of the two together, and never exceeds the
budget by a rounding error: |adversarial - image| <= epsilon holds for the float32 numbers that are returned, in exact
arithmetic and when the difference is taken in float32.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SLACK = 1e-5  # relative: more than float32 sums of millions of terms are wrong by


class Norm(NamedTuple):
    """The geometry of a ball, as functions of one example."""

    name: str
    # perturbations [n, ...] -> their sizes [n], in float64 on the host
    measure: Callable[..., np.ndarray]
    # perturbation -> its size, in float32, for use inside a program
    size: Callable[..., jax.Array]
    # gradient -> its size in the dual norm: how fast a value can rise per unit of this norm
    dual: Callable[..., jax.Array]
    # (gradient, blocked=None) -> a perturbation of size 1 along which the value rises fast; 0 where the gradient is 0.
    # `blocked` are the elements that the box keeps from following their gradient
    steepest: Callable[..., jax.Array]
    # (point, center, epsilon, lower=0, upper=1) -> the nearest point of the box at most epsilon from `center`, which
    # lies in the box itself
    project: Callable[..., jax.Array]
    # (key, shape, epsilon) -> a perturbation drawn uniformly from the ball
    uniform: Callable[..., jax.Array]
    # (key, shape) -> a random direction, of any length: uniform elements in L-infinity, else normal ones
    direction: Callable[..., jax.Array]


def shift_towards_zero(center: jax.Array, shift: jax.Array) -> jax.Array:
    """Compute `center + shift`, rounded so that the result is at most |shift| away from `center`, exactly.

    Knuth's TwoSum (The Art of Computer Programming 2, section 4.2.2) yields the rounding error of the sum, and where
    the sum went too far it steps back to the neighboring float.
    """
    total = center + shift
    moved = total - center
    error = (center - (total - moved)) + (shift - moved)  # the exact sum minus `total`
    too_far = jnp.where(shift > 0, error < 0, error > 0)
    return jnp.where(too_far, jnp.nextafter(total, center), total)


def euclidean(values: jax.Array) -> jax.Array:
    """Compute the Euclidean norm of all values, whose squares may under- or overflow."""
    largest = jnp.max(jnp.abs(values))
    scale = jnp.where(largest > 0, largest, 1)
    return scale * jnp.sqrt(jnp.sum((values / scale) ** 2))


def reach_and_room(point, center, lower, upper) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Compute the way from `center` to `point`, its magnitude, and how far the box lets each element go."""
    direction = point - center
    return direction, jnp.abs(direction), jnp.where(direction > 0, upper - center, center - lower)
