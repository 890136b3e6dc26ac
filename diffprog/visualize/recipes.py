"""Settings that were found to look good, for whoever does not want to choose."""

from typing import NamedTuple

from diffprog.visualize.parameterisations import Parameterisation, fourier
from diffprog.visualize.transforms import Transform, lucid, wide


class Recipe(NamedTuple):
    """Arguments of `render`, which go well together."""

    image: Parameterisation
    shake: Transform
    steps: int


def recipe(model, objective, size=None):
    """A picture and transforms that suit the depth of the layers that an objective reads.

    Shallow units repeat a small pattern, which a picture of 128 pixels shows best. Deep ones and classes need the
    network's own size; there a gentle low-pass and wider transforms keep the fine noise out that they also respond to.
    """
    shapes = [model.layers[name] for name in model.checked_layers(sorted(objective.layers))]
    stride = max((model.size // (shape[0] if len(shape) == 3 else 1) for shape in shapes), default=1)
    deep = stride >= 32
    size = size or (128 if stride <= 8 else model.size)
    return Recipe(fourier(size, cutoff=0.3 if deep else None), wide if deep else lucid, 256)
