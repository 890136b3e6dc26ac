"""Pictures of what a network's units respond to.

    render(model, channel("blocks.8", 28), key=jax.random.key(0)).images[0]
"""

from diffprog.visualize.objectives import Objective, channel, direction, layer, logit, neuron
from diffprog.visualize.parameterisations import (
    COLOURS,
    Parameterisation,
    alpha,
    colours_of,
    covariance_of,
    cppn,
    fourier,
    maco,
    masked,
    natural,
    pixels,
    pyramid,
    shared,
    slope_of,
    spectrum_of,
)
from diffprog.visualize.recipes import Recipe, recipe
from diffprog.visualize.rendering import Rendering, render
from diffprog.visualize.transforms import (
    Transform,
    blend,
    blur,
    chain,
    colour_shift,
    crop,
    flip,
    gentle,
    jitter,
    lucid,
    noise,
    pad,
    resize,
    rotate,
    scale,
    still,
    wide,
)

__all__ = [
    "COLOURS", "Objective", "Parameterisation", "Recipe", "Rendering", "Transform", "alpha", "blend", "blur", "chain",
    "channel", "colour_shift", "colours_of", "covariance_of", "cppn", "crop", "direction", "flip", "fourier", "gentle",
    "jitter", "layer", "logit", "lucid", "maco", "masked", "natural", "neuron", "noise", "pad", "pixels", "pyramid",
    "recipe", "render", "resize", "rotate", "scale", "shared", "slope_of", "spectrum_of", "still", "wide",
]
