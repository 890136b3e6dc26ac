"""What Auto-PGD does in L-infinity and L2: every image halves its own steps, and goes back to its best point."""

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffprog.attack._attacks.fast_gradient import project
from diffprog.attack._engine.method import Method
from diffprog.attack._engine.queries import by_gradient
from diffprog.attack._norms import linf

RISES = 0.75  # rho: steps are halved if no more than this part of them raised the loss
MOMENTUM = 0.75  # alpha: how much of a step is new


def dense_ascent(name, norm, loss, steps):
    """APGD in L-infinity and L2 (Croce & Hein 2020b, algorithm 1): a Method and what it is given."""
    first, shorter, least = (max(int(part * steps), 1) for part in (0.22, 0.03, 0.06))
    return _ascent(name, norm, loss), (first, shorter, least)


class Best(NamedTuple):
    """The point of the largest loss so far: where a search goes back to."""

    point: jax.Array
    gradient: jax.Array
    value: jax.Array

    def with_look(self, *look):
        """The better of this and of a look at another (point, gradient, value)."""
        return jax.tree.map(lambda new, old: jnp.where(look[2] > self.value, new, old), Best(*look), self)


def nothing_yet(point):
    """The Best before the first look."""
    return Best(point, jnp.zeros_like(point), jnp.float32(-jnp.inf))


class Ascent(NamedTuple):
    point: jax.Array
    previous: jax.Array  # the point before it
    value: jax.Array  # there
    best: Best
    step: jax.Array  # length
    taken: jax.Array  # int32, steps since the last checkpoint
    rises: jax.Array  # int32, how many of them raised the loss
    interval: jax.Array  # int32, steps until the next
    halved: jax.Array  # bool, what the last checkpoint did
    value_then: jax.Array  # the best at the last checkpoint


@lru_cache
def _ascent(name, norm, loss):
    def start(example, given):
        drawn = _on_surface(norm, example.key, example.image.shape)
        point = project(norm, example.image + example.epsilon * drawn, example)
        best, highest = nothing_yet(point), jnp.float32(jnp.inf)  # the first look is no rise
        return Ascent(
            point,
            point,
            highest,
            best,
            2 * example.epsilon,
            jnp.int32(-1),
            jnp.int32(0),
            jnp.int32(given[0]),
            jnp.bool_(True),
            highest,
        )

    def learn(example, given, state, view):
        _, shorter, least = given
        best = state.best.with_look(state.point, view.gradient, view.value)
        taken = state.taken + 1
        rises = state.rises + (view.value > state.value)
        check = taken == state.interval
        halve = check & ((rises <= RISES * taken) | (~state.halved & (best.value <= state.value_then)))

        origin = jnp.where(halve, best.point, state.point)
        gradient = jnp.where(halve, best.gradient, view.gradient)
        step = jnp.where(halve, state.step / 2, state.step)
        straight = project(norm, origin + step * norm.steepest(gradient), example)
        new = jnp.where(view.number > 0, MOMENTUM, 1.0)
        moved = project(norm, origin + new * (straight - origin) + (1 - new) * (origin - state.previous), example)
        return Ascent(
            moved,
            origin,
            view.value,
            best,
            step,
            taken=jnp.where(check, 0, taken),
            rises=jnp.where(check, 0, rises),
            interval=jnp.where(check, jnp.maximum(state.interval - shorter, least), state.interval),
            halved=jnp.where(check, halve, state.halved),
            value_then=jnp.where(check, best.value, state.value_then),
        )

    return Method(name, start, learn, by_gradient, loss, norm)


def _on_surface(norm, key, shape):
    """A random perturbation of size 1: each element uniform, and the largest then 1 (L-infinity), or a direction."""
    drawn = jax.random.uniform(key, shape, minval=-1.0) if norm is linf else jax.random.normal(key, shape)
    return drawn / norm.size(drawn)
