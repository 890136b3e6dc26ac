"""A line search that learns one value at a time and asks for the next, so that many of them run side by side.

It looks for a step that satisfies the strong Wolfe conditions by bracketing and cubic interpolation (Nocedal & Wright,
Numerical Optimization, 2nd edition, algorithms 3.5 and 3.6, and equation 3.59). One thing differs: a value
counts as lower within its own rounding error, because near a minimum only the slopes still tell points apart (Hager &
Zhang 2005, section 4.1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffprog._util.trees import tree_where

DECREASE = 1e-3  # part of the decrease that the first slope promises
CURVATURE = 0.9  # part of the first slope that may be left
ROUNDING = 4  # units in the last place of the value at the start
MAX_TRIALS = 20
GROWTH = 4.0  # factor of a step that is still too short


class Trial(NamedTuple):
    """Value and slope at a step along the line."""

    step: jax.Array
    value: jax.Array
    slope: jax.Array


class LineSearch(NamedTuple):
    """What is known of a line; `step` is where to evaluate next."""

    start: Trial
    low: Trial  # the lowest so far; the minimum lies on its downhill side
    high: Trial  # the other end of the bracket
    bracketed: jax.Array
    max_step: jax.Array
    step: jax.Array
    num_trials: jax.Array  # int32


def init(value: jax.Array, slope: jax.Array, max_step: jax.Array) -> LineSearch:
    """Begin at a point of this value and (negative) slope, with a first step of 1 or `max_step`."""
    start = Trial(jnp.zeros_like(value), value, slope)
    return LineSearch(
        start, start, start, jnp.array(False), max_step, jnp.minimum(1.0, max_step), jnp.zeros((), jnp.int32)
    )


def update(search: LineSearch, value: jax.Array, slope: jax.Array) -> tuple[LineSearch, jax.Array, jax.Array]:
    """Take in value and slope at `search.step`.

    A value that is not finite counts as too high.

    Returns:
      The search; whether the step satisfies the Wolfe conditions; whether to give up.
    """
    start, low, high = search.start, search.low, search.high
    trial = Trial(search.step, value, slope)
    rounding = ROUNDING * jnp.finfo(value.dtype).eps * jnp.abs(start.value)
    promised = start.value + DECREASE * trial.step * start.slope + rounding
    decreased = jnp.isfinite(slope) & (value <= promised)
    flat = jnp.abs(slope) <= -CURVATURE * start.slope
    accepted = decreased & (flat | ((slope < 0) & (trial.step >= search.max_step)))

    too_high = ~decreased | (value >= low.value)
    ahead = jnp.where(search.bracketed, high.step - low.step, 1.0)
    turned = ~too_high & (slope * ahead >= 0)
    high = tree_where(too_high, trial, tree_where(turned, low, high))
    low = tree_where(too_high, low, trial)
    bracketed = search.bracketed | too_high | turned
    step = jnp.where(bracketed, _interpolate(low, high), jnp.minimum(GROWTH * trial.step, search.max_step))
    num_trials = search.num_trials + 1
    hopeless = bracketed & (jnp.abs(high.step - low.step) * -start.slope <= rounding)
    failed = ~accepted & ((num_trials >= MAX_TRIALS) | hopeless)
    return search._replace(low=low, high=high, bracketed=bracketed, step=step, num_trials=num_trials), accepted, failed


def _interpolate(low: Trial, high: Trial) -> jax.Array:
    """Minimize the cubic with these values and slopes, a tenth of the bracket or more from its ends.

    The middle of the bracket is returned if the cubic has no minimum.
    """
    width = high.step - low.step
    bend = low.slope + high.slope - 3 * (high.value - low.value) / width
    root = jnp.sign(width) * jnp.sqrt(jnp.maximum(bend**2 - low.slope * high.slope, 0))
    fraction = 1 - (high.slope + root - bend) / (high.slope - low.slope + 2 * root)
    return low.step + width * jnp.where(jnp.isfinite(fraction), jnp.clip(fraction, 0.1, 0.9), 0.5)
