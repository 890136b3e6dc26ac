"""The shortest way to a hyperplane inside a box, in each norm: a step of attacks that take a network for linear."""

import jax
import jax.numpy as jnp

from diffprog.attack._norms.dense import linf
from diffprog.attack._norms.norm import Norm
from diffprog.attack._norms.sparse import l1


def way_to_plane(
    norm: Norm, point: jax.Array, rise: jax.Array, slope: jax.Array, lower: jax.Array, upper: jax.Array
) -> jax.Array:
    """Find the smallest way, in L-infinity, L2 or L1, along which a linear function rises by a number.

    Args:
      norm: `linf`, `l2` or `l1`.
      point: of one example, of any shape; it lies in the box.
      rise: a scalar, which may be negative. Where the box does not hold so much, take as much as it holds.
      slope: the gradient of the function.
      lower: the box, in which `point + way` lies.
      upper: likewise.

    References:
      Croce & Hein 2020a, equation 3.
    """
    slope = jnp.sign(rise) * slope
    room = jnp.where(slope > 0, upper - point, point - lower)
    lengths = _one_after_the_other if norm is l1 else _all_together(1.0 if norm is linf else jnp.abs(slope))
    return jnp.sign(slope) * lengths(jnp.abs(slope), room, jnp.abs(rise))


def _all_together(speed):
    """Let each element go at its speed until the box stops it: min(t speed, room), all for the same t.

    The rise is concave in t and made of straight lines, so Newton's method from t = 0 goes up to the answer without
    passing it, and arrives in a few rounds.
    """

    def lengths(steepness, room, rise):
        def solve(t):
            stopped = t * speed >= room
            left = rise - jnp.sum(jnp.where(stopped, steepness * room, 0))
            rise_per_t = jnp.sum(jnp.where(stopped, 0, steepness * speed))
            return jnp.where(rise_per_t > 0, left / jnp.where(rise_per_t > 0, rise_per_t, 1), t)

        first = solve(jnp.zeros_like(rise) - 1)
        _, t = jax.lax.while_loop(
            lambda pair: pair[1] > pair[0], lambda pair: (pair[1], solve(pair[1])), (jnp.zeros_like(rise), first)
        )
        return jnp.where(steepness > 0, jnp.clip(t * speed, 0, room), 0)

    return lengths


def _one_after_the_other(steepness, room, rise):
    """Let the steepest element go first, as far as the box allows, then the next, until the rise is reached."""
    order = jnp.argsort(-steepness.reshape(-1), stable=True)
    steep, far = steepness.reshape(-1)[order], room.reshape(-1)[order]
    gained = jnp.cumsum(jnp.where(steep > 0, steep * far, 0))
    left = rise - jnp.concatenate([jnp.zeros(1, gained.dtype), gained[:-1]])
    way = jnp.where(steep > 0, jnp.clip(left / jnp.where(steep > 0, steep, 1), 0, far), 0)
    return jnp.zeros_like(way).at[order].set(way).reshape(steepness.shape)
