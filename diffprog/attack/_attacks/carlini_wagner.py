"""The attack of Carlini & Wagner (2017) in L2."""

from functools import lru_cache
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffprog.attack._engine import border
from diffprog.attack._engine.bisection import Rounds, checked_progress, first_round, plan, restarted, told
from diffprog.attack._engine.method import Method, smaller
from diffprog.attack._engine.queries import by_gradient
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._norms import l2

STRETCH = 1.01  # the box that tanh fills, relative to the pixels': its slope at their bounds is then no longer 0


def carlini_wagner(
    model,
    images,
    labels,
    *,
    key=None,
    binary_search_steps: int = 9,
    max_steps: int = 1000,
    step_size: float = 1e-2,
    initial_const: float = 1e-3,
    confidence: float = 0.0,
    **options: Unpack[Options],
) -> AttackResult:
    """The smallest perturbation in L2 by the method of Carlini & Wagner (2017, sections V and VI).

    Adam minimizes |r|^2 + c max(confidence - lead, 0) over w, where the image is tanh(w) moved and scaled to the box,
    and `lead` is the largest logit of another class minus the label's (the target's minus the largest other). Each
    image has its own c, found by bisection: tenfold until the first success.

    Unlike in the paper, tanh fills a box larger by a hundredth, whose overhang is clipped: pixels at 0 or 1 are the
    ends of tanh, where its slope is 0, and could not move. Each image abandons a search by itself when the objective
    stalls, and a search that fails altogether returns the image it was given. Distances are to that image.

    searches:   values of c that are tried.
    steps:      of Adam in each search at most; the authors took 10000.
    step_size:  of Adam, in w.
    weight:     the first c.
    confidence: the lead, in units of the logits, that counts as a success.
    Other arguments are those of `pgd`; nothing is drawn, so `key` is not needed.
    """
    border.checked_counts(binary_search_steps=binary_search_steps, max_steps=max_steps)
    border.checked_positive(step_size=step_size, initial_const=initial_const)
    border.checked_not_negative(confidence=confidence)
    given = plan(initial_const, binary_search_steps, max_steps), np.float32(step_size), np.float32(confidence)
    return search(
        model,
        images,
        labels,
        _method(),
        max_steps=binary_search_steps * max_steps,
        key=key,
        given=given,
        confidence=confidence,
        **options,
    )


class State(NamedTuple):
    """A search of Adam, and which it is."""

    point: jax.Array
    variable: jax.Array  # w
    adam: Any  # Optax's state
    rounds: Rounds
    done: jax.Array


@lru_cache
def _method():
    adam = optax.scale_by_adam()

    def span(example):
        return (example.lower + example.upper) / 2, STRETCH * (example.upper - example.lower) / 2

    def beginning(example):
        middle, half = span(example)
        variable = jnp.arctanh(jnp.where(half > 0, (example.image - middle) / jnp.where(half > 0, half, 1), 0))
        return example.image, variable, adam.init(variable)

    def start(example, given):
        return State(*beginning(example), first_round(given[0]), jnp.array(False))

    def learn(example, given, state, view):
        plan, step_size, confidence = given
        moved = state.point - example.image
        short = jnp.maximum(confidence - view.value, 0)
        rounds, idle = checked_progress(state.rounds, plan, jnp.sum(moved**2) + state.rounds.weight * short)
        middle, half = span(example)
        slope = half * (1 - jnp.tanh(state.variable) ** 2)
        gradient = (2 * moved - jnp.where(short > 0, rounds.weight, 0) * view.gradient) * slope
        step, moments = adam.update(gradient, state.adam)
        variable = state.variable - step_size * step
        point = jnp.clip(middle + half * jnp.tanh(variable), example.lower, example.upper)
        rounds, ended, done = told(rounds, plan, rounds.found | view.hit, idle)
        return State(*restarted(ended, beginning(example), (point, variable, moments)), rounds, done)

    return Method("carlini_wagner", start, learn, by_gradient, norm=l2, better=smaller)
