"""What an attack must know of a norm, and arithmetic that never rounds outwards.

Every function of a `Norm` works on ONE example of any shape, in float32; attacks map them over a batch. A projection
lands in the ball *and* in the box [lower, upper], at the nearest point of the two together, and never exceeds the
budget by a rounding error: |adversarial - image| <= epsilon holds for the float32 numbers that are returned, in exact
arithmetic and when the difference is taken in float32.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

SLACK = 1e-5  # relative: more than float32 sums of millions of terms are wrong by


class Norm(NamedTuple):
    """A ball's geometry.

    measure:   perturbations [n, ...] -> their sizes, in float64 on the host.
    size:      perturbation -> its size, in float32, for use inside a program.
    dual:      gradient -> its size in the dual norm: how fast a value can rise per unit of this norm.
    steepest:  (gradient, stopped=None) -> a perturbation of size 1 along which the value rises fast; 0 where the
               gradient is 0. `stopped` are the elements that the box keeps from following their gradient.
    project:   (point, center, epsilon, lower=0, upper=1) -> the nearest point of the box at most epsilon from `center`,
               which lies in the box itself.
    uniform:   (key, shape, epsilon) -> a perturbation drawn uniformly from the ball.
    """

    name: str
    measure: Callable
    size: Callable
    dual: Callable
    steepest: Callable
    project: Callable
    uniform: Callable


def shift_towards_zero(center, shift):
    """`center + shift`, rounded towards `center`: the result is at most |shift| away from it, exactly.

    Knuth's TwoSum (The Art of Computer Programming 2, section 4.2.2) yields the rounding error of the sum, and where
    the sum went too far it steps back to the neighboring float.
    """
    total = center + shift
    moved = total - center
    error = (center - (total - moved)) + (shift - moved)  # the exact sum minus `total`
    too_far = jnp.where(shift > 0, error < 0, error > 0)
    return jnp.where(too_far, jnp.nextafter(total, center), total)


def euclidean(values):
    """The Euclidean norm of all of `values`, whose squares may under- or overflow."""
    largest = jnp.max(jnp.abs(values))
    scale = jnp.where(largest > 0, largest, 1)
    return scale * jnp.sqrt(jnp.sum((values / scale) ** 2))


def reach_and_room(point, center, lower, upper):
    """How far `point` wants to go from `center` along each axis, and how far the box lets it."""
    direction = point - center
    return direction, jnp.abs(direction), jnp.where(direction > 0, upper - center, center - lower)
