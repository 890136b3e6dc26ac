"""Measure objectives on given images, without gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.batches import in_batches
from diffprog.visualize.objectives._base import PICTURE

BATCH = 16  # images through the network at once: more would cost memory and gain no time on a CPU


def scorer(model, objectives):
    """A function of images (n, height, width, 3) in [0, 1] that gives every objective's score of every image.

    Its result is (objectives, n). The network is compiled once per shape of the images, and for all calls that read
    the same layers. Raises ValueError for an objective that the model lacks or that compares pictures with each other,
    and for unsuitable images.
    """
    objectives = [each.check(model) for each in objectives]
    for term in (term for each in objectives for term in each.weights if term.joint):
        raise ValueError(f"{term.name} compares pictures with each other, and so has no score for one: leave it out")
    names = sorted(set().union(*(each.layers for each in objectives)) - {PICTURE})

    @jax.jit
    def score(values):
        count = len(values[PICTURE])
        return jnp.stack([jnp.broadcast_to(each.score(model, values), count) for each in objectives])

    def of_images(images):
        images = np.clip(np.asarray(images, np.float32), 0, 1)  # sampling rounds beyond by a bit or two
        values = model.activations(images, names) if names else {}
        return np.asarray(score({**values, PICTURE: jnp.asarray(images)}))

    return lambda images: in_batches(of_images, images, BATCH, axis=1)
