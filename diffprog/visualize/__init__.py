"""Pictures of what a network's units respond to.

    render(model, channel("blocks.8", 28), key=jax.random.key(0)).images[0]
"""

from diffprog.visualize.natural import NaturalExamples, top_crops
from diffprog.visualize.objectives import Objective, channel, direction, layer, logit, neuron
from diffprog.visualize.parameterisations import Parameterisation, fourier, pixels
from diffprog.visualize.recipes import Recipe, recipe
from diffprog.visualize.rendering import Rendering, render
from diffprog.visualize.scoring import Scores, score
from diffprog.visualize.transforms import Transform, chain, gentle, jitter, lucid, pad, rotate, scale, still, wide

__all__ = [
    "NaturalExamples", "Objective", "Parameterisation", "Recipe", "Rendering", "Scores", "Transform", "chain",
    "channel", "direction", "fourier", "gentle", "jitter", "layer", "logit", "lucid", "neuron", "pad", "pixels",
    "recipe", "render", "rotate", "scale", "score", "still", "top_crops", "wide",
]
