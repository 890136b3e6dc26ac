"""Recipes: settings that go well together, by name.

```python
render(model, objective, key=key, **recipe(model, objective, "maco").options)
```
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog._util.spelling import answers_names
from diffprog.models import Model
from diffprog.models._labels import suggest
from diffprog.visualize._rendering.fitting import extent, layer_values, picture_shape
from diffprog.visualize._rendering.render import Rendering, render
from diffprog.visualize._spelling import MEANT
from diffprog.visualize.objectives._base import PICTURE, Objective
from diffprog.visualize.objectives._comparisons import difference
from diffprog.visualize.parameterizations import Parameterization, fourier, maco
from diffprog.visualize.transforms import Transform, chain, crop, jitter, lucid, noise, pad, rotate, scale


class Recipe(NamedTuple):
    """Arguments of `render`; see there."""

    parameterization: Parameterization
    transform: Transform
    steps: int
    num_transforms: int = 1
    learning_rate: float = 0.05
    optimizer: optax.GradientTransformation | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The arguments as a dict."""
        return self._asdict()


def recipe(
    model: Model, objective: Objective, name: str = "default", size: int | tuple[int, int] | None = None
) -> Recipe:
    """Look up a recipe for an objective.

    The recipes are:

    - "default": Ours for small convolutional networks, by the depth of the layers that the objective reads.
    - "lucid": The defaults of Lucid's `render_vis`: 128 pixels, 512 steps.
    - "distill": As the pictures of Olah et al. 2017, "Feature Visualization", footnote: 2,560 steps.
    - "maco": Magnitude-constrained (Fel et al. 2023): phases only, seen in random crops with noise.
    - "caricature": For `caricature` and `tensor_direction`: small motions at the network's size, for places matter.

    Args:
      model: The network.
      objective: What is to be drawn.
      name: The recipe's name.
      size: Side of the pictures in pixels, or (height, width); the recipe's own by default.

    Returns:
      A `Recipe`.

    Raises:
      ValueError: There is no such recipe. The message lists near misses.
    """
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; {suggest(str(name), list(RECIPES))}")
    return RECIPES[name](model, objective, size)


def _default(model, objective, size):
    """Choose by the depth of the layers, as found for EfficientNet-Lite0 by `benchmarks.feature_visualization`.

    Shallow units repeat a small pattern, which a small picture shows best. Deep units and classes need the network's
    own size. There random crops, as in MACO but of free frequencies, show whole objects where small motions show
    textures, and a slightly steeper spectrum and a gentle low-pass keep out fine noise.
    """
    names = model.check_layers(sorted(objective.layers - {PICTURE}))
    shapes = [model.layers[model.layer_name(name)] for name in names]
    height, width, channels = picture_shape(model)
    stride = max((height // (shape[0] if len(shape) == 3 else 1) for shape in shapes), default=1)
    if stride >= 32:
        picture = fourier(*_sides(model, size), channels=channels, decay=1.2, cutoff=0.3)
        return Recipe(picture, chain(crop(_crop_sides(model), 0.3, 0.65), noise(0.05)), 96, num_transforms=6)
    longest = 160 if stride == 16 else 128
    sides = _sides(model, size or (min(longest, height), min(longest, width)))
    return Recipe(fourier(*sides, channels=channels), lucid, 256)


def _sides(model, size):
    """Read the size of pictures, as arguments of a parameterization; the network's if it is None."""
    if size is None:
        return extent(*picture_shape(model)[:2])
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(sides) != 2:
        raise ValueError(f"size must be a side in pixels, or (height, width); found {size!r}")
    return extent(*(check_count(side, "size") for side in sides))


def _crop_sides(model):
    """Take two thirds of the network's size: what is lost in detail is won in draws."""
    own = picture_shape(model)[:2]
    sides = tuple(max(2 * side // 3, model.min_size) for side in own)
    chosen = extent(*(sides if model.takes(*sides) else own))
    return chosen if len(chosen) == 2 else chosen[0]


def _lucid(model, objective, size):
    return Recipe(fourier(*_sides(model, size or 128), channels=model.channels), lucid, 512)


_DISTILL = chain(pad(16), jitter(16), scale(0.95, 1.05), rotate(5), jitter(8), jitter(8))


def _distill(model, objective, size):
    # Jitters of 16 and of 8 pixels take away 24 of the 32 that were padded; one more crops the rest.
    return Recipe(fourier(*_sides(model, size), channels=model.channels), _DISTILL, 2560)


@lru_cache
def _nadam(learning_rate):
    return optax.nadam(learning_rate)


def _maco(model, objective, size):
    # Published are crops of 5 to 50 percent; crops of a quarter and more show whole objects, and cost less.
    transform = chain(crop(_crop_sides(model), 0.25, 0.6), noise(0.08, 0.04))
    picture = maco(*_sides(model, size), channels=model.channels)
    return Recipe(picture, transform, 96, num_transforms=8, optimizer=_nadam(1.0))


def _caricature(model, objective, size):
    # Lucid's recipe of that name takes 512 steps; half of them do for pictures to look at.
    return Recipe(fourier(*_sides(model, size), channels=model.channels), lucid, 256)


RECIPES: dict[str, Callable[[Model, Objective, Any], Recipe]] = {
    "default": _default,
    "lucid": _lucid,
    "distill": _distill,
    "maco": _maco,
    "caricature": _caricature,
}


@answers_names(MEANT, passes_to=render)
@own_promotion()
def accentuate(
    model: Model,
    objective: Objective,
    photograph: np.ndarray,
    *,
    key: jax.Array,
    layer: str | None = None,
    strength: float = 1.0,
    steps: int = 128,
    learning_rate: float = 0.05,
    **options: Any,
) -> Rendering:
    """Bring out what a unit sees in a photograph.

    The photograph is moved until the unit responds more, and held where it is by its activations in a lower layer.

    Args:
      model: The network.
      objective: The unit.
      photograph: Array (height, width, channels) in [0, 1], of the size at which the network is to see it.
      key: A JAX random key.
      layer: Name of the lower layer; the picture itself by default.
      strength: Strength of the hold, in units of the mean square of the layer's values there.
      steps: Number of ascent steps.
      learning_rate: Adam's learning rate.
      **options: Other arguments of `render`.

    Returns:
      A `Rendering` of one picture.

    References:
      After Hamblin et al. 2024, "Feature accentuation".
    """
    layer = layer or PICTURE
    photograph = model.check_image(photograph)
    target = photograph if layer == PICTURE else layer_values(model, photograph, layer)
    mean_square = max(float(np.mean((target - target.mean()) ** 2)), 1e-12)
    held = objective - strength / mean_square * difference(layer, target)
    height, width = photograph.shape[:2]
    options = {"parameterization": fourier(height, width, channels=model.channels), "transform": lucid, **options}
    return render(model, held, key=key, start=photograph, steps=steps, learning_rate=learning_rate, **options)
