"""The shortest of the steps that a damping gives: how much damping makes a step as long as a trust region allows."""

import jax
import jax.numpy as jnp

CLOSE = 0.01  # how near to the wanted length, as a part of it
MAX_ITERATIONS = 60


def damping(numerators: jax.Array, denominators: jax.Array, least: jax.Array, radius: jax.Array) -> jax.Array:
    """Solve |p| = radius for the damping t, where p_i = numerators_i / (denominators_i + t).

    Newton's method on 1 / |p|, which is concave in t: from below it does not overshoot (Hebden 1973; More 1978).

    Args:
      numerators: (n,).
      denominators: (n,), positive with the `least` damping wherever the numerator is not 0.
      least: the least damping that may be.
      radius: the length that is wanted.

    Returns:
      The damping, at least `least`; that one where p is short enough with it already.
    """

    def lengths(t):
        shifted = denominators + t
        p = jnp.where(numerators == 0, 0, numerators / jnp.where(numerators == 0, 1, shifted))
        largest = jnp.max(jnp.abs(p))
        p = p / jnp.where(largest > 0, largest, 1)  # its squares neither overflow nor vanish
        sum_squares = jnp.sum(p * p)
        slope = jnp.sum(jnp.where(numerators == 0, 0, p * p / jnp.where(numerators == 0, 1, shifted)))
        return largest * jnp.sqrt(sum_squares), sum_squares, slope

    def is_long(carry):
        _, (length, _, _), iteration = carry
        return (length > (1 + CLOSE) * radius) & (iteration < MAX_ITERATIONS)

    def turn(carry):
        t, (length, sum_squares, slope), iteration = carry
        t = t + (length / radius - 1) * sum_squares / slope
        return t, lengths(t), iteration + 1

    return jax.lax.while_loop(is_long, turn, (least, lengths(least), jnp.int32(0)))[0]
