"""Pictures of what a network's units respond to.

    render(model, channel("blocks.8", 28), key=jax.random.key(0)).images[0]
"""

from diffprog.visualize.dream import Dream, dream, guide
from diffprog.visualize.dream_video import dream_video
from diffprog.visualize.objectives import Objective, channel, direction, layer, logit, neuron
from diffprog.visualize.parameterisations import Parameterisation, fourier, pixels
from diffprog.visualize.recipes import Recipe, recipe
from diffprog.visualize.rendering import Rendering, render
from diffprog.visualize.transforms import Transform, chain, gentle, jitter, lucid, pad, rotate, scale, still, wide

__all__ = [
    "Dream", "Objective", "Parameterisation", "Recipe", "Rendering", "Transform", "chain", "channel", "direction",
    "dream", "dream_video", "fourier", "gentle", "guide", "jitter", "layer", "logit", "lucid", "neuron", "pad",
    "pixels", "recipe", "render", "rotate", "scale", "still", "wide",
]
