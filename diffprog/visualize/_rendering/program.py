"""The program of a rendering: gradient ascent on the parameters of a batch of pictures, through one descent loop."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from diffprog.optimize import Descent
from diffprog.visualize._rendering.batching import measure
from diffprog.visualize._rendering.dead_units import reviving
from diffprog.visualize.objectives._base import PICTURE

PROGRAMS = 32  # that are kept


class Setting(NamedTuple):
    """What a program is compiled for. Everything in it is compared by value or is the same object."""

    model: Any
    layout: tuple
    layers: tuple[str, ...]
    count: int
    image: Any
    shake: Any
    draws: int
    optimizer: Any
    stops: bool
    engine: str


class Data(NamedTuple):
    """What it takes each time."""

    parameters: Any  # the network's
    terms: Any  # a plan's numbers
    numbers: jax.Array  # of the pictures, for the random draws
    levels: jax.Array | None


class Kept(NamedTuple):
    """The pictures that came to their level, as they were then."""

    parameters: Any
    reached: jax.Array
    step: jax.Array


@lru_cache
def adam(rate):
    return optax.adam(rate)


@lru_cache(maxsize=PROGRAMS)
def program(setting: Setting, revive: bool) -> Descent:
    """The loop for one setting. `revive`: whether gradients get through rectifiers that are off everywhere."""
    model, layout, layers, count, image, shake, draws, optimizer, stops, engine = setting
    collect = reviving(model.collect) if revive else model.collect

    def ascend(parameters, step):
        pictures = image.decode(parameters)
        shaken = copies(pictures, shake, step.key, step.data.numbers, draws)
        values = collect(step.data.parameters, shaken.reshape(-1, *shaken.shape[2:]), layers) if layers else {}
        by_draw = {name: value.reshape(count, draws, *value.shape[1:]) for name, value in values.items()}
        by_draw[PICTURE] = jnp.broadcast_to(pictures[:, None], (count, draws, *pictures.shape[1:]))
        scores, terms = jax.vmap(lambda own: measure(layout, step.data.terms, own, count), in_axes=1)(by_draw)
        scores, terms = jax.tree.map(lambda each: jnp.mean(each, axis=0), (scores, terms))
        hit = scores >= step.data.levels if stops else None
        return jnp.sum(scores), (scores, terms, hit)

    return Descent(ascend, optimizer, maximize=True, has_aux=True, engine=engine, keep=_keep if stops else None)


def copies(pictures, shake, key, numbers, draws):
    """`draws` random copies of each picture: (n, h, w, c) -> (n, draws, h', w', c')."""

    def of_picture(number, picture):
        own = jax.random.fold_in(key, number)
        return jax.vmap(lambda draw: shake(jax.random.fold_in(own, draw), picture))(jnp.arange(draws))

    return jax.vmap(of_picture)(numbers, pictures)


def _keep(kept, parameters, value, aux):
    first = aux[2] & (kept.reached < 0)
    return Kept(choose(first, parameters, kept.parameters), jnp.where(first, kept.step, kept.reached), kept.step + 1)


def choose(pictures, yes, no):
    """Leaf by leaf the rows of one or of the other tree, for leaves that have a row per picture; else `no`'s."""

    def one(a, b):
        if jnp.ndim(b) == 0 or b.shape[0] != len(pictures):
            return b
        return jnp.where(jnp.reshape(pictures, (-1,) + (1,) * (b.ndim - 1)), a, b)

    return jax.tree.map(one, yes, no)


@lru_cache(maxsize=PROGRAMS)
def decoder(image):
    """`image.decode`, compiled."""
    return jax.jit(image.decode)
