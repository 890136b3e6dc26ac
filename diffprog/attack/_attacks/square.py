"""The Square attack: random windows of constant change, kept when they help. It asks for no gradient."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack._attacks.fast_gradient import project
from diffprog.attack._attacks.windows import as_picture, hill, place, tiles, window_sides
from diffprog.attack._engine import border
from diffprog.attack._engine.method import Method
from diffprog.attack._engine.queries import by_logits
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._losses import margin, of_label
from diffprog.attack._norms import Norm, l1, l2, linf

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # steps after which the part of a window is halved


def square(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon=8 / 255,
    max_steps: int = 5000,
    p_init: float = 0.8,
    loss: Callable = margin,
    **options: Unpack[Options],
) -> AttackResult:
    """The Square attack (Andriushchenko et al. 2020, algorithms 1 to 3), from nothing but logits.

    In L-infinity it starts from vertical stripes, and each step moves every channel of a random square to one of its
    two limits. In L2 and L1 it starts from a grid of hills, and each step takes the budget of one window to another,
    with a new hill. A step is kept if it raises the loss. Each image has windows of its own, and its search ends with
    its first success unless `early_stop=False`.

    steps: windows tried, each a query; one more is spent on the start.
    part:  of the picture that the first windows cover (p); halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and
           8000 steps, however many steps there are, as in AutoAttack.
    norm:  `linf`, `l2`, or `l1` (the form of Croce & Hein 2021).

    Images are [n, height, width, channels], or [n, height, width]. Vectors [n, size] are pictures of one row, whose
    windows are stretches. A window that is larger than a side of the picture keeps its area, not its shape. Windows
    reach every edge, where the authors' never reach the last row and column.

    Other arguments and errors are those of `pgd`.
    """
    border.checked_positive(p_init=p_init)
    method = _square(border.checked_norm(norm, (linf, l2, l1)), of_label(loss))
    return search(
        model,
        images,
        labels,
        method,
        max_steps=max_steps,
        key=key,
        epsilon=epsilon,
        given=np.float32(p_init),
        **{"early_stop": True, **options},
    )


class Windows(NamedTuple):
    point: jax.Array  # a proposal
    best: jax.Array
    value: jax.Array  # of the best


@lru_cache
def _square(norm, loss):
    begin, propose = (_stripes, _flip_square) if norm is linf else (_grid_of(norm), _move_hill_of(norm))

    def start(example, given):
        change = begin(example.key, as_picture(example.image).shape).reshape(example.image.shape)
        point = project(norm, example.image + example.epsilon * change, example)
        return Windows(point, point, jnp.float32(-jnp.inf))

    def learn(example, given, state, view):
        better = view.value > state.value
        best, value = jnp.where(better, state.point, state.best), jnp.where(better, view.value, state.value)
        p_init = given / 2.0 ** jnp.sum(view.number > jnp.array(HALVINGS))
        change = as_picture(best - example.image)
        change = propose(view.key, change, p_init, example.epsilon).reshape(best.shape)
        return Windows(project(norm, example.image + change, example), best, value)

    return Method("square", start, learn, by_logits, loss, norm)


def _signs(key, shape):
    return jax.random.rademacher(key, shape, jnp.float32)


def _stripes(key, shape):
    return jnp.broadcast_to(_signs(key, (1, *shape[1:])), shape)


def _flip_square(key, change, p_init, epsilon):
    """Every channel of a random square by two budgets up or down: to one of its limits, after the projection."""
    where, which = jax.random.split(key)
    sides = window_sides(change.shape, p_init)
    chosen = place(where, change.shape, sides).inside
    return change + jnp.where(chosen, 2 * epsilon * _signs(which, (1, 1, change.shape[2])), 0)


def _grid_of(norm):
    """Five by five hills of random sign in each channel, together of size 1."""

    def begin(key, shape):
        turn, which = jax.random.split(key)
        (rows, columns), hills = tiles(turn, shape)
        change = hills * _signs(which, shape)[rows, columns]
        return change / norm.size(change)

    return begin


def _move_hill_of(norm):
    """Algorithm 3: a window loses its change, and another gets what budget that frees, in a new hill on its old
    change, whose sign is random in each channel."""
    order = 1 if norm is l1 else 2

    def size(values):
        """In each channel, to the power of `order`."""
        return jnp.sum(jnp.abs(values) ** order, axis=(0, 1))

    def unit(values):
        total = size(values) ** (1 / order)
        return values / jnp.where(total > 0, total, 1)

    def propose(key, change, p_init, epsilon):
        here_key, there_key, turn, which = jax.random.split(key, 4)
        sides = window_sides(change.shape, p_init, least=3, odd=True)
        here, there = (place(each, change.shape, sides) for each in (here_key, there_key))
        signs = _signs(which, (1, 1, change.shape[2]))
        new = unit(unit(hill(turn, here, sides)) * signs + unit(jnp.where(here.inside, change, 0)))
        unspent = jnp.maximum(epsilon**order - jnp.sum(size(change)), 0) / change.shape[2]
        freed = size(jnp.where(here.inside | there.inside, change, 0))
        new = new * (unspent + freed) ** (1 / order)
        moved = jnp.where(here.inside, new, jnp.where(there.inside, 0, change))
        return moved * (epsilon / jnp.maximum(norm.size(moved), 1e-12))

    return propose
