"""Settings that go well together, by name.

render(model, objective, key=key, **recipe(model, objective, "maco").options)
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import optax

from diffprog.models._labels import suggest
from diffprog.visualize._rendering.render import render
from diffprog.visualize.objectives._base import PICTURE
from diffprog.visualize.objectives._comparisons import difference
from diffprog.visualize.parameterizations import Parameterization, fourier, maco
from diffprog.visualize.transforms import Transform, chain, crop, jitter, lucid, noise, pad, rotate, scale


class Recipe(NamedTuple):
    """Arguments of `render`."""

    parameterization: Parameterization
    transform: Transform
    steps: int
    num_transforms: int = 1
    learning_rate: float = 0.05
    optimizer: optax.GradientTransformation | None = None

    @property
    def options(self):
        """As keyword arguments."""
        return self._asdict()


def recipe(model, objective, name="default", size=None):
    """The recipe of that name for an objective; `size` overrides the side of its pictures.

    "default":  ours for small convolutional networks, by the depth of the layers that are read (`_default`).
    "lucid":    the defaults of Lucid's `render_vis`: 128 pixels, 512 steps.
    "distill":  that of the article's pictures (Olah et al. 2017, "Feature Visualization", footnote): 2,560 steps.
    "maco":     magnitude-constrained (Fel et al. 2023): phases only, seen in random crops with noise.
    "caricature": for `caricature` and `tensor_direction`, in which places matter: small motions at the network's size.

    Raises ValueError for another name, with the near misses.
    """
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; {suggest(str(name), list(RECIPES))}")
    return RECIPES[name](model, objective, size)


def _default(model, objective, size):
    """Shallow units repeat a small pattern, which a small picture shows best. Deep ones and classes need the network's
    own size; there random crops, as in MACO but of frequencies that are free, show whole objects where small motions
    show textures, and a slightly steeper spectrum and a gentle low-pass keep out fine noise. Chosen for
    EfficientNet-Lite0 by `benchmarks.feature_visualization` and by looking."""
    names = model.check_layers(sorted(objective.layers - {PICTURE}))
    shapes = [model.layers[model.layer_name(name)] for name in names]
    stride = max((model.size // (shape[0] if len(shape) == 3 else 1) for shape in shapes), default=1)
    if stride >= 32:
        image = fourier(size or model.size, channels=model.channels, decay=1.2, cutoff=0.3)
        return Recipe(image, chain(crop(_crop_side(model), 0.3, 0.65), noise(0.05)), 96, num_transforms=6)
    side = size or min(160 if stride == 16 else 128, model.size)
    return Recipe(fourier(side, channels=model.channels), lucid, 256)


def _crop_side(model):
    """Two thirds of the network's size: what is lost in detail is won in draws."""
    return max(2 * model.size // 3, model.min_size)


def _lucid(model, objective, size):
    return Recipe(fourier(size or 128, channels=model.channels), lucid, 512)


_DISTILL = chain(pad(16), jitter(16), scale(0.95, 1.05), rotate(5), jitter(8), jitter(8))


def _distill(model, objective, size):
    """Jitters of 16 and of 8 pixels take away 24 of the 32 that were padded; one more crops the rest."""
    return Recipe(fourier(size or model.size, channels=model.channels), _DISTILL, 2560)


@lru_cache
def _nadam(learning_rate):
    return optax.nadam(learning_rate)


def _maco(model, objective, size):
    """Published are crops of 5 to 50 percent; those of a quarter and more show whole objects, and cost less."""
    transform = chain(crop(_crop_side(model), 0.25, 0.6), noise(0.08, 0.04))
    return Recipe(maco(size or model.size), transform, 96, num_transforms=8, optimizer=_nadam(1.0))


def _caricature(model, objective, size):
    """Lucid's recipe of that name takes 512 steps; half of them do for pictures to look at."""
    return Recipe(fourier(size or model.size, channels=model.channels), lucid, 256)


RECIPES: dict[str, Callable] = {
    "default": _default,
    "lucid": _lucid,
    "distill": _distill,
    "maco": _maco,
    "caricature": _caricature,
}


def accentuate(
    model, objective, photograph, *, key, layer=None, strength=1.0, steps=128, learning_rate=0.05, **options
):
    """What a unit sees in a photograph, brought out: the photograph, moved until the unit responds more, and held where
    it is by its activations in a lower layer (after Hamblin et al. 2024, "Feature accentuation").

    photograph: (height, width, 3) in [0, 1], of the size at which the network is to see it.
    layer:      the lower layer; the picture itself unless given.
    strength:   of the hold, in units of the mean square of the layer's values there.
    options:    of `render`.
    """
    layer = layer or PICTURE
    photograph = np.asarray(photograph, np.float32)
    target = photograph if layer == PICTURE else np.asarray(model.activations(photograph[None], layer)[layer][0])
    scale_of = max(float(np.mean((target - target.mean()) ** 2)), 1e-12)
    held = objective - strength / scale_of * difference(layer, target)
    height, width = photograph.shape[:2]
    options = {"parameterization": fourier(height, width), "transform": lucid, **options}
    return render(model, held, key=key, start=photograph, steps=steps, learning_rate=learning_rate, **options)
