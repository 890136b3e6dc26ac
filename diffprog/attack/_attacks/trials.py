"""Attacks that try one point after another and learn nothing from them but which was best."""

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffprog.attack._engine.method import Method
from diffprog.attack._engine.queries import by_logits
from diffprog.attack._engine.run import search
from diffprog.attack._losses import label_margin
from diffprog.attack._norms import linf


class State(NamedTuple):
    """Which trial an image is at."""

    point: jax.Array
    done: jax.Array


@lru_cache
def trials(name, make, loss=label_margin, norm=linf):
    """The method that asks about make(example, given, number, key), number = 0, 1, ..., and keeps the largest loss.

    The first of what it is given is how many; see `try_out`. `key` is of the image and the number.
    """

    def at(example, given, number):
        return make(example, given[1:], number, jax.random.fold_in(example.key, number))

    def start(example, given):
        return State(at(example, given, 0), jnp.array(False))

    def learn(example, given, state, view):
        number = view.number + 1
        return State(at(example, given, number), number >= given[0])

    return Method(name, start, learn, by_logits, loss, norm)


def try_out(model, images, labels, method, count, given=(), **options):
    """Search with `count` points of such a method. One step more than that, which is never taken: after the last step
    of a search comes one more look."""
    return search(model, images, labels, method, max_steps=count + 1, given=(jnp.int32(count), *given), **options)
