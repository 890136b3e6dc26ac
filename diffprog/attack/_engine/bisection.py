"""What searches for the smallest perturbation share: a weight found by bisection, schedules, units."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

UNKNOWN = 1e10  # upper end of a bisection in which nothing has succeeded
CHECKS = 10  # an abandoned search is noticed so often


class Rounds(NamedTuple):
    """Searches with one weight of the loss after the other: the smallest weight that succeeds (Carlini & Wagner 2017,
    section V and their program): tenfold until the first success, then halfway between failure and success."""

    weight: jax.Array
    low: jax.Array  # the largest weight that failed
    high: jax.Array  # the smallest that succeeded
    number: jax.Array  # int32, rounds finished
    step: jax.Array  # int32, of this round
    found: jax.Array  # bool, whether this round has a success
    before: jax.Array  # the objective when progress was last checked


class Plan(NamedTuple):
    """Numbers of a method that searches in rounds."""

    first: jax.Array  # weight
    rounds: jax.Array
    steps: jax.Array  # of each round, at most


def plan(weight, searches, steps) -> Plan:
    return Plan(np.float32(weight), np.int32(searches), np.int32(steps))


def first_round(plan: Plan) -> Rounds:
    zero, none, no = jnp.float32(0), jnp.int32(0), jnp.array(False)
    return Rounds(plan.first, zero, zero + UNKNOWN, none, none, no, zero + jnp.inf)


def told(rounds: Rounds, plan: Plan, found, over) -> tuple[Rounds, jax.Array, jax.Array]:
    """The rounds after a step, which of them has `found` something now; whether the step was the last of its round
    because the plan or `over` says so, and whether it was the last of all."""
    step = rounds.step + 1
    ended = over | (step >= plan.steps)
    low = jnp.where(ended & jnp.logical_not(found), jnp.maximum(rounds.low, rounds.weight), rounds.low)
    high = jnp.where(ended & found, jnp.minimum(rounds.high, rounds.weight), rounds.high)
    number = rounds.number + ended
    weight = jnp.where(high < UNKNOWN, (low + high) / 2, rounds.weight * 10)
    weight = jnp.where((plan.rounds >= 10) & (number == plan.rounds - 1) & (high < UNKNOWN), high, weight)  # as theirs
    new = Rounds(
        jnp.where(ended, weight, rounds.weight),
        low,
        high,
        number,
        jnp.where(ended, 0, step),
        found & ~ended,
        jnp.where(ended, jnp.inf, rounds.before),
    )
    return new, ended, number >= plan.rounds


def checked_progress(rounds: Rounds, plan: Plan, objective) -> tuple[Rounds, jax.Array]:
    """Ten times a round: whether the objective has fallen by less than a ten thousandth since the last check."""
    due = rounds.step % jnp.maximum(plan.steps // CHECKS, 1) == 0
    idle = due & (objective > 0.9999 * rounds.before)
    return rounds._replace(before=jnp.where(due, objective, rounds.before)), idle


def cosine(first, last, number, steps):
    """From `first` to `last` along half a cosine."""
    return last + (first - last) * (1 + jnp.cos(jnp.pi * number / steps)) / 2


def width(example):
    """The range of a pixel: in what lengths are measured that papers give for images in [0, 1]."""
    return jnp.max(example.upper - example.lower)


def unit(norm, gradient, example, key):
    """The gradient with length 1 in L2; a random direction where it is zero, so that the search goes on."""
    drawn = jax.random.normal(key, gradient.shape) * (example.upper > example.lower)
    return norm.steepest(jnp.where(jnp.any(gradient != 0), gradient, drawn))


def restarted(ended, fresh, state):
    """`fresh` where a round has ended."""
    return jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, state)
