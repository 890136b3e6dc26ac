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
    """A picture and transforms that suit the depth of the layers that an objective reads; `size` overrides its side.

    Shallow units repeat a small pattern, which a small picture shows best. Deep ones and classes need the network's
    own size; there a gentle low-pass and wider transforms keep out the fine noise that they also respond to, and a
    slightly steeper spectrum favours whole shapes.
    """
    shapes = [model.layers[name] for name in model.checked_layers(sorted(objective.layers))]
    stride = max((model.size // (shape[0] if len(shape) == 3 else 1) for shape in shapes), default=1)
    if stride >= 32:
        return Recipe(fourier(size or model.size, decay=1.12, cutoff=0.25), wide, 256)
    return Recipe(fourier(size or (160 if stride == 16 else 128)), lucid, 256)
