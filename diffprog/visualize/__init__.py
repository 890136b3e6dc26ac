"""Pictures of what a network's units respond to.

    render(model, channel("blocks.8", 28), key=jax.random.key(0)).images[0]
"""

from diffprog.visualize.comparisons import (
    alignment,
    caricature,
    difference,
    diversity,
    interpolate,
    style_difference,
    tensor_direction,
)
from diffprog.visualize.objective import Objective, objective
from diffprog.visualize.objectives import (
    channel,
    cosine,
    direction,
    direction_at,
    layer,
    log_probability,
    logit,
    neuron,
)
from diffprog.visualize.parameterisations import COLOURS, Parameterisation, colours_of, fourier, pixels
from diffprog.visualize.penalties import boundary_complexity, fine_detail, l1, l2, opacity, total_variation
from diffprog.visualize.recipes import Recipe, recipe
from diffprog.visualize.rendering import Rendering, render
from diffprog.visualize.transforms import Transform, chain, gentle, jitter, lucid, pad, rotate, scale, still, wide

__all__ = [
    "COLOURS", "Objective", "Parameterisation", "Recipe", "Rendering", "Transform", "alignment",
    "boundary_complexity", "caricature", "chain", "channel", "colours_of", "cosine", "difference", "direction",
    "direction_at", "diversity", "fine_detail", "fourier", "gentle", "interpolate", "jitter", "l1", "l2", "layer",
    "log_probability", "logit", "lucid", "neuron", "objective", "opacity", "pad", "pixels", "recipe", "render",
    "rotate", "scale", "still", "style_difference", "tensor_direction", "total_variation", "wide",
]
