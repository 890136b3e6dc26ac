"""DDN, the decoupled direction and norm attack (Rony et al. 2019)."""

from functools import lru_cache
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack._engine import border
from diffprog.attack._engine.bisection import cosine, unit, width
from diffprog.attack._engine.method import Method, smaller
from diffprog.attack._engine.queries import by_gradient
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._losses import cross_entropy, of_label
from diffprog.attack._norms import l2
from diffprog.attack._norms.norm import euclidean


def ddn(
    model,
    images,
    labels,
    *,
    key=None,
    max_steps: int = 100,
    init_norm: float = 1.0,
    gamma: float = 0.05,
    levels: int | None = 256,
    **options: Unpack[Options],
) -> AttackResult:
    """The smallest perturbation in L2 by decoupled direction and norm (Rony et al. 2019, algorithm 1).

    The direction of r follows the gradient of the cross-entropy, its length does not: it shrinks by `gamma` after a
    success and grows by as much after a failure. A zero gradient is replaced by a random direction, which `key`
    decides.

    init_norm: the first length, for pixels in [0, 1].
    levels: every point that is tried is rounded to so many values of a pixel, so that a success survives being saved:
            256 for files of bytes. None rounds nothing, and finds smaller perturbations.
    Steps along the unit gradient shrink from 1 to 0.01 as half a cosine, as in the authors' program. Other arguments
    are those of `pgd`.
    """
    border.checked_counts(max_steps=max_steps)
    border.checked_positive(init_norm=init_norm, gamma=gamma)
    if levels is not None:
        border.checked_counts(levels=levels)
    low, high = border.checked_bounds(options.get("bounds", (0, 1)))
    given = *map(np.float32, (max_steps, init_norm, gamma)), None if levels is None else _grid(low, high, levels)
    return search(model, images, labels, _method(), max_steps=max_steps, key=key, given=given, **options)


def _grid(low, high, levels):
    return np.float32(low), np.float32((high - low) / max(levels - 1, 1))


class State(NamedTuple):
    """A point, and how far the next may be."""

    point: jax.Array
    radius: jax.Array


@lru_cache
def _method():
    def start(example, given):
        return State(example.image, given[1] * width(example))

    def learn(example, given, state, view):
        max_steps, _, gamma, grid = given
        length = width(example) * cosine(1.0, 0.01, view.number, max_steps)
        moved = state.point + length * unit(l2, view.gradient, example, view.key) - example.image
        radius = state.radius * (1 + jnp.where(view.hit, -gamma, gamma))
        size = euclidean(moved)
        point = example.image + moved * radius / jnp.where(size > 0, size, 1)
        if grid is not None:
            low, level = grid
            point = low + level * jnp.round((point - low) / level)
        return State(jnp.clip(point, example.lower, example.upper), radius)

    return Method("ddn", start, learn, by_gradient, of_label(cross_entropy), l2, smaller)
