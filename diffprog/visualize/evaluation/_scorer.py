"""Scores of given images, without gradients."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.batches import in_batches
from diffprog.models import Model
from diffprog.visualize._rendering.fitting import activations
from diffprog.visualize.objectives._base import PICTURE, Objective

BATCH = 16  # images through the network at once: more would cost memory and gain no time on a CPU


def scorer(model: Model, objectives: Sequence[Objective]) -> Callable[[np.ndarray], np.ndarray]:
    """Make a function that scores images by objectives.

    The network is compiled once per shape of the images, and for all calls that read the same layers.

    Args:
      model: The network.
      objectives: The objectives.

    Returns:
      A function of images (n, height, width, 3) in [0, 1] to scores (objectives, n).

    Raises:
      ValueError: For an objective that the model lacks or that compares pictures with each other, and for unsuitable
        images.
    """
    objectives = [objective.check(model) for objective in objectives]
    for term in (term for objective in objectives for term in objective.weights if term.joint):
        raise ValueError(f"{term.name} compares pictures with each other, and so has no score for one: leave it out")
    names = sorted(set().union(*(objective.layers for objective in objectives)) - {PICTURE})

    @jax.jit
    def score(values):
        n = len(values[PICTURE])
        return jnp.stack([jnp.broadcast_to(objective.score(model, values), n) for objective in objectives])

    def score_images(images):
        images = np.clip(np.asarray(images, np.float32), 0, 1)  # sampling rounds beyond by a bit or two
        values = activations(model, images, names) if names else {}
        return np.asarray(score({**values, PICTURE: jnp.asarray(images)}))

    return lambda images: in_batches(score_images, images, BATCH, axis=1)
