"""Draw what a unit responds to: gradient ascent on a picture's parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffprog.optimize import Descent
from diffprog.visualize import transforms
from diffprog.visualize.objectives import Objective
from diffprog.visualize.parameterisations import fourier

WARM_UP = 16  # steps in which gradients pass through dead units, as in Lucid


class Rendering(NamedTuple):
    """images: (n, height, width, 3) in [0, 1]. scores: (steps, n), each image's objective before each step, measured
    under that step's random transforms."""

    images: np.ndarray
    scores: np.ndarray


def render(model, objective, *, key, image=None, shake=transforms.lucid, draws=1, steps=256, rate=0.05,
           engine="diffprog", progress=None):
    """Pictures that excite `objective`, by Adam in a preconditioned space under random transforms (Olah et al. 2017).

    objective: one `Objective`, or a list of n, each drawn in a picture of its own in one batch.
    image:     a parameterisation; `fourier(model.size)` unless given.
    shake:     a transform, drawn anew for every picture and step.
    draws:     shaken copies of each picture per step, whose scores are averaged.
    rate:      Adam's step size.
    engine:    whose gradients, "diffprog" or "jax".
    progress:  a caption, which switches on a progress bar.

    Equal arguments give equal bits. Picture i depends on `key` and i, not on the rest of its batch (beyond rounding).
    Rounding matters: ascent through many ReLUs amplifies it, so two engines, whose gradients agree to rounding, or two
    machines draw pictures that agree at first and differ in detail after some ten steps.
    Units that are dead at the start are revived: in the first steps the gradient passes through every named ReLU as
    if it were linear. Raises ValueError for an unknown layer, channel, class or engine, or for too small a picture.
    """
    objectives = [objective] if isinstance(objective, Objective) else list(objective)
    image = image or fourier(model.size)
    side = min(shake.size(image.height, image.width))
    if side < model.minimum:
        raise ValueError(f"{model.name} takes images of {model.minimum} pixels or more; found {side} after transforms")
    names = sorted(set().union(*(each.checked(model).layers for each in objectives)))

    def ascend(parameters, step):
        pictures = _shaken(image.decode(parameters), shake, step.key, draws)
        values = read(model, step.data, pictures, names, step.number < WARM_UP)
        scores = jnp.stack([
            jnp.mean(jnp.broadcast_to(each.score(model, _of_picture(values, index, draws)), draws))
            for index, each in enumerate(objectives)
        ])
        return jnp.sum(scores), scores

    beginning, loop = jax.random.split(key)
    starts = image.start(jax.vmap(jax.random.fold_in, (None, 0))(beginning, jnp.arange(len(objectives))))
    descent = Descent(ascend, optax.adam(rate), maximise=True, has_aux=True, engine=engine)
    state, history = descent.run(
        descent.start(starts, key=loop), steps, data=model.parameters, block=16, progress=progress
    )
    return Rendering(np.asarray(jax.jit(image.decode)(state.parameters)), history.aux)


def _shaken(pictures, shake, key, draws):
    """`draws` random copies of each picture, next to each other: (n, h, w, 3) -> (n * draws, h', w', 3)."""

    def copies(index, picture):
        own = jax.random.fold_in(key, index)
        return jax.vmap(lambda draw: shake(jax.random.fold_in(own, draw), picture))(jnp.arange(draws))

    shaken = jax.vmap(copies)(jnp.arange(len(pictures)), pictures)
    return shaken.reshape(-1, *shaken.shape[2:])


def _of_picture(values, index, draws):
    return {name: value[index * draws : (index + 1) * draws] for name, value in values.items()}


def read(model, parameters, images, names, revive):
    """The values of the named layers. Where `revive` holds, a ReLU's gradient is that of the value before it.

    A unit that is zero everywhere has no gradient, and its picture would stay grey; so would a saturated one's.
    """
    before = {name: f"{name}.pre" for name in names if f"{name}.pre" in model.layers}
    values = model.collect(parameters, images, tuple(dict.fromkeys([*names, *before.values()])))
    still = jax.lax.stop_gradient

    def revived(name):
        after, pre = values[name], values[before[name]]
        return jnp.where(revive, still(after) + (pre - still(pre)), after)  # value of one, gradient of the other

    return {name: revived(name) if name in before else values[name] for name in names}
