"""A line search that is told one value at a time, and asks for the next: many of them run side by side.

It looks for a step that satisfies the strong Wolfe conditions by bracketing and cubic interpolation (Nocedal & Wright,
Numerical Optimization, 2nd edition, algorithms 3.5 and 3.6, and equation 3.59). What differs is for float32: a value
counts as lower if it is so up to its own rounding error, because near a minimum values tell nothing any more while
slopes still do (Hager & Zhang 2005, section 4.1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

DECREASE = 1e-3  # part of the decrease that the first slope promises
CURVATURE = 0.9  # part of the first slope that may be left
ROUNDING = 4 * 1.2e-7  # of the value at the start
TRIALS = 20
GROWTH = 4.0  # of a step that is still too short


class Trial(NamedTuple):
    """What was found at a step along the line."""

    step: jax.Array
    value: jax.Array
    slope: jax.Array


class LineSearch(NamedTuple):
    """What is known of a line; `step` is where to look next."""

    start: Trial
    low: Trial  # the lowest so far; the minimum lies on its downhill side
    high: Trial  # the other end of the bracket
    bracketed: jax.Array
    longest: jax.Array  # no step goes farther
    step: jax.Array
    trials: jax.Array  # int32, values told


def begin(value, slope, longest) -> LineSearch:
    """A search from a point of this value and (negative) slope; the first step is 1, or `longest`."""
    start = Trial(jnp.zeros_like(value), value, slope)
    return LineSearch(
        start, start, start, jnp.array(False), longest, jnp.minimum(1.0, longest), jnp.zeros((), jnp.int32)
    )


def proceed(search: LineSearch, value, slope):
    """The search after `value` and `slope` were found at `search.step`, whether that step will do, and whether to give
    up. A value that is not finite counts as too high."""
    start, low, high = search.start, search.low, search.high
    trial = Trial(search.step, value, slope)
    promised = start.value + DECREASE * trial.step * start.slope + ROUNDING * jnp.abs(start.value)
    decreased = jnp.isfinite(slope) & (value <= promised)
    flat = jnp.abs(slope) <= -CURVATURE * start.slope
    accepted = decreased & (flat | ((slope < 0) & (trial.step >= search.longest)))

    too_high = ~decreased | (value >= low.value)
    ahead = jnp.where(search.bracketed, high.step - low.step, 1.0)
    turned = ~too_high & (slope * ahead >= 0)
    high = _pick(too_high, trial, _pick(turned, low, high))
    low = _pick(too_high, low, trial)
    bracketed = search.bracketed | too_high | turned
    step = jnp.where(bracketed, _between(low, high), jnp.minimum(GROWTH * trial.step, search.longest))
    trials = search.trials + 1
    hopeless = bracketed & (jnp.abs(high.step - low.step) * -start.slope <= ROUNDING * jnp.abs(start.value))
    failed = ~accepted & ((trials >= TRIALS) | hopeless)
    return search._replace(low=low, high=high, bracketed=bracketed, step=step, trials=trials), accepted, failed


def _between(low: Trial, high: Trial):
    """Where the cubic with these values and slopes is lowest, a tenth of the bracket or more from its ends; the middle
    if there is no such place."""
    width = high.step - low.step
    bend = low.slope + high.slope - 3 * (high.value - low.value) / width
    root = jnp.sign(width) * jnp.sqrt(jnp.maximum(bend**2 - low.slope * high.slope, 0))
    part = 1 - (high.slope + root - bend) / (high.slope - low.slope + 2 * root)
    return low.step + width * jnp.where(jnp.isfinite(part), jnp.clip(part, 0.1, 0.9), 0.5)


def _pick(where, yes: Trial, no: Trial) -> Trial:
    return jax.tree.map(lambda y, n: jnp.where(where, y, n), yes, no)
