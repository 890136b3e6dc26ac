"""FMN, the fast minimum-norm attack (Pintor et al. 2021)."""

from functools import lru_cache
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack._attacks.fast_gradient import project, stopped
from diffprog.attack._engine import border
from diffprog.attack._engine.bisection import cosine, unit, width
from diffprog.attack._engine.method import Method, smaller
from diffprog.attack._engine.queries import by_gradient
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._norms import Norm, l0, l1, l2, linf


def fmn(
    model,
    images,
    labels,
    *,
    key=None,
    norm: Norm = l2,
    max_steps: int = 100,
    step_size: float = 1.0,
    gamma: float = 0.05,
    **options: Unpack[Options],
) -> AttackResult:
    """The smallest perturbation in L0, L1, L2 or L-infinity by projected steps in a ball that follows the boundary
    (Pintor et al. 2021, algorithm 1).

    A step goes along the gradient of the lead of another class, and is projected on a ball. Until the first success
    the ball reaches to where the boundary would be if the lead were linear; then it shrinks by `gamma` after a success
    and grows by as much after a failure (in L0 by at least one element). Step and gamma fall as half a cosine, to a
    hundredth and a fiftieth. A zero gradient is replaced by a random direction, which `key` decides.

    Unlike in the paper the first ball reaches beyond that boundary by `gamma`, since a ball that ends at it may never
    cross it, and the projection is on ball and box together, so that the ball is used up where the box is in the way.

    norm:      `l0`, `l1`, `l2` or `linf`.
    step_size: the first step's length, in L2 whatever the norm, for pixels in [0, 1].
    Other arguments are those of `pgd`.
    """
    norm = border.checked_norm(norm, (l0, l1, l2, linf))
    border.checked_counts(max_steps=max_steps)
    border.checked_positive(step_size=step_size, gamma=gamma)
    given = tuple(map(np.float32, (max_steps, step_size, gamma)))
    return search(model, images, labels, _method(norm), max_steps=max_steps, key=key, given=given, **options)


class State(NamedTuple):
    """A point, its ball, and the smallest success so far."""

    point: jax.Array
    epsilon: jax.Array
    smallest: jax.Array


@lru_cache
def _method(norm):
    def farthest(example):
        return norm.size(jnp.maximum(example.image - example.lower, example.upper - example.image))

    def start(example, given):
        return State(example.image, jnp.ones(()), jnp.float32(jnp.inf))

    def elements(state, hit, smallest, gamma):
        less = jnp.minimum(jnp.minimum(state.epsilon - 1, jnp.floor(state.epsilon * (1 - gamma))), smallest)
        more = jnp.maximum(state.epsilon + 1, jnp.floor(state.epsilon * (1 + gamma)))
        return jnp.maximum(jnp.where(hit, less, more), 0)

    def length(example, state, view, size, smallest, gamma):
        slope = norm.dual(jnp.where(stopped(view.gradient, state.point, example), 0, view.gradient))
        reach = size + jnp.abs(view.value) / jnp.maximum(slope, 1e-12)
        missed = jnp.where(smallest < jnp.inf, state.epsilon, reach) * (1 + gamma)
        return jnp.where(view.hit, jnp.minimum(state.epsilon * (1 - gamma), smallest), missed)

    def learn(example, given, state, view):
        max_steps, step_size, gamma = given
        step_size = width(example) * cosine(step_size, step_size / 100, view.number, max_steps)
        gamma = cosine(gamma, gamma / 50, view.number, max_steps)
        size = norm.size(state.point - example.image)
        smallest = jnp.where(view.hit, jnp.minimum(state.smallest, size), state.smallest)
        if norm is l0:
            epsilon = elements(state, view.hit, smallest, gamma)
        else:
            epsilon = length(example, state, view, size, smallest, gamma)
        epsilon = jnp.minimum(epsilon, farthest(example))
        moved = state.point + step_size * unit(l2, view.gradient, example, view.key)
        return State(project(norm, moved, example._replace(epsilon=epsilon)), epsilon, smallest)

    return Method("fmn", start, learn, by_gradient, norm=norm, better=smaller)
