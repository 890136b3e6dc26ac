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
    parameterization: Any
    transform: Any
    num_transforms: int
    optimizer: Any
    stops: bool
    engine: str


class Data(NamedTuple):
    """What it takes each time."""

    parameters: Any  # the network's
    terms: Any  # a plan's numbers
    image_ids: jax.Array  # of the pictures, for the random draws
    levels: jax.Array | None


class Kept(NamedTuple):
    """The pictures that came to their level, as they were then."""

    parameters: Any
    reached: jax.Array
    step: jax.Array


@lru_cache
def adam(learning_rate):
    return optax.adam(learning_rate)


@lru_cache(maxsize=PROGRAMS)
def program(setting: Setting, revive: bool) -> Descent:
    """The loop for one setting. `revive`: whether gradients get through rectifiers that are off everywhere."""
    model, layout, layers, count, parameterization, transform, num_transforms, optimizer, stops, engine = setting
    collect = reviving(model.collect) if revive else model.collect

    def ascend(parameters, step):
        pictures = parameterization.decode(parameters)
        transformed = copies(pictures, transform, step.key, step.data.image_ids, num_transforms)
        values = (
            collect(step.data.parameters, transformed.reshape(-1, *transformed.shape[2:]), layers) if layers else {}
        )
        by_draw = {name: value.reshape(count, num_transforms, *value.shape[1:]) for name, value in values.items()}
        by_draw[PICTURE] = jnp.broadcast_to(pictures[:, None], (count, num_transforms, *pictures.shape[1:]))
        scores, terms = jax.vmap(lambda own: measure(layout, step.data.terms, own, count), in_axes=1)(by_draw)
        scores, terms = jax.tree.map(lambda each: jnp.mean(each, axis=0), (scores, terms))
        hit = scores >= step.data.levels if stops else None
        return jnp.sum(scores), (scores, terms, hit)

    return Descent(ascend, optimizer, maximize=True, has_aux=True, engine=engine, track=_keep if stops else None)


def copies(pictures, transform, key, image_ids, num_transforms):
    """`num_transforms` random copies of each picture: (n, h, w, c) -> (n, num_transforms, h', w', c')."""

    def of_picture(number, picture):
        own = jax.random.fold_in(key, number)
        return jax.vmap(lambda draw: transform(jax.random.fold_in(own, draw), picture))(jnp.arange(num_transforms))

    return jax.vmap(of_picture)(image_ids, pictures)


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
def decoder(parameterization):
    """`parameterization.decode`, compiled."""
    return jax.jit(parameterization.decode)
