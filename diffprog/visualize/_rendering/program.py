"""The program of a rendering: gradient ascent on the parameters of a batch of pictures, through one descent loop."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from diffprog._transforms.closures import lift
from diffprog._util.trees import tree_where
from diffprog.models import Model
from diffprog.optimize import Descent
from diffprog.visualize._rendering.batching import Group, measure
from diffprog.visualize._rendering.dead_units import redirect_rectifiers
from diffprog.visualize.objectives._base import PICTURE
from diffprog.visualize.parameterizations._base import Parameterization
from diffprog.visualize.transforms._compose import Transform

NUM_DECODERS = 32  # that are kept


@dataclass(frozen=True)
class Setting:
    """What a network's program is compiled for; functions are equal if they are identical."""

    layout: tuple[Group, ...]
    layers: tuple[str, ...]
    num_images: int
    parameterization: Parameterization
    transform: Transform
    num_transforms: int
    optimizer: optax.GradientTransformation
    has_stop: bool
    engine: str


class Data(NamedTuple):
    """What a program takes in each step.

    Attributes:
      network: What the network reads, by `network_data`.
      arguments: A plan's arguments.
      image_ids: uint32 (n,), on which the random draws depend.
      stop_at: Scores (n,) at which pictures are kept; None if they never are.
    """

    network: Any
    arguments: Any
    image_ids: jax.Array
    stop_at: jax.Array | None


class Measures(NamedTuple):
    """What a step tells beside its value.

    Attributes:
      scores: (n,), averaged over the transformed copies.
      terms: For each group of the layout, (pictures, terms).
      has_reached: bool (n,), whether the score is at the level to stop at; None if there is none.
    """

    scores: Any
    terms: list
    has_reached: Any = None


class Reached(NamedTuple):
    """The pictures that have reached the score to stop at, as they were when they did.

    Attributes:
      parameters: Parameters of all pictures; without meaning for pictures that have not.
      step: int32 (n,), the step at which a picture reached its score, -1 if it has not.
      num_steps: int32, steps so far.
    """

    parameters: Any
    step: jax.Array
    num_steps: jax.Array


@lru_cache  # equal arguments give the same object, for which programs are compiled once
def adam(learning_rate: float) -> optax.GradientTransformation:
    """Make Adam, the same object for the same learning rate."""
    return optax.adam(learning_rate)


def network_data(
    model: Model, layers: tuple[str, ...], shape: tuple[int, ...], redirect: bool = False
) -> tuple[Callable, Any]:
    """Divide what a network computes into a function and data: what it reads may change, and no program keeps it.

    Args:
      model: The network.
      layers: Names of layers.
      shape: The shape of the images.
      redirect: Whether gradients get through rectifiers that are off everywhere.

    Returns:
      `collect(data, images, names) -> {name: values}`, and the data, which must be held until the program has run.
    """
    collect = redirect_rectifiers(model.collect) if redirect else model.collect
    if not model.reads_outside or not layers:
        return collect, model.parameters
    read = lambda parameters, images: collect(parameters, images, layers)
    lifted = lift(read, model.parameters, jnp.zeros(shape, jnp.float32))
    return lambda data, images, names: data[0](data[1], images), (lifted, model.parameters)


def program(setting: Setting, collect: Callable) -> Descent:
    """Make the loop for a setting and what `network_data` made of the network."""
    n, num_transforms = setting.num_images, setting.num_transforms

    def ascend(parameters, step):
        pictures = setting.parameterization.decode(parameters)
        copies = transformed(pictures, setting.transform, step.key, step.data.image_ids, num_transforms)
        images = copies.reshape(-1, *copies.shape[2:])
        values = collect(step.data.network, images, setting.layers) if setting.layers else {}
        by_copy = {name: value.reshape(n, num_transforms, *value.shape[1:]) for name, value in values.items()}
        by_copy[PICTURE] = jnp.broadcast_to(pictures[:, None], (n, num_transforms, *pictures.shape[1:]))
        score = lambda values: measure(setting.layout, step.data.arguments, values, n)
        scores, terms = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), jax.vmap(score, in_axes=1)(by_copy))
        has_reached = scores >= step.data.stop_at if setting.has_stop else None
        return jnp.sum(scores), Measures(scores, terms, has_reached)

    track = _track if setting.has_stop else None
    return Descent(
        ascend,
        setting.optimizer,
        maximize=True,
        has_aux=True,
        engine=setting.engine,
        track=track,
        allow_nonfinite=True,  # one picture of a batch must not stop the others
    )


def transformed(
    pictures: jax.Array, transform: Transform, key: jax.Array, image_ids: jax.Array, num_transforms: int
) -> jax.Array:
    """Transform each picture several times: (n, h, w, c) -> (n, num_transforms, h', w', c')."""

    def copies(image_id, picture):
        picture_key = jax.random.fold_in(key, image_id)
        copy = lambda index: transform(jax.random.fold_in(picture_key, index), picture)
        return jax.vmap(copy)(jnp.arange(num_transforms))

    return jax.vmap(copies)(image_ids, pictures)


def _track(reached, parameters, value, measures):
    first = measures.has_reached & (reached.step < 0)
    return Reached(
        choose_pictures(first, parameters, reached.parameters),
        jnp.where(first, reached.num_steps, reached.step),
        reached.num_steps + 1,
    )


def choose_pictures(chosen: jax.Array, yes: Any, no: Any) -> Any:
    """Choose rows of `yes` where `chosen` holds, else of `no`; take leaves without a row per picture from `no`."""
    has_rows = lambda leaf: jnp.ndim(leaf) > 0 and leaf.shape[0] == len(chosen)
    return jax.tree.map(lambda y, n: tree_where(chosen, y, n) if has_rows(n) else n, yes, no)


@lru_cache(maxsize=NUM_DECODERS)
def decoder(parameterization: Parameterization) -> Callable:
    """Compile `parameterization.decode`."""
    return jax.jit(parameterization.decode)
