"""Pictures of what a network's units respond to.

    render(model, channel("blocks.8", 28), key=jax.random.key(0)).images[0]
"""

from diffprog.visualize.atlas import Atlas, activation_atlas, tsne
from diffprog.visualize.comparisons import (
    alignment,
    caricature,
    difference,
    diversity,
    interpolate,
    style_difference,
    tensor_direction,
)
from diffprog.visualize.dream import Dream, dream, guide
from diffprog.visualize.dream_video import dream_video
from diffprog.visualize.facets import Facet, facet, facets
from diffprog.visualize.grids import Grid, activation_grid
from diffprog.visualize.jobs import render_all
from diffprog.visualize.natural_examples import NaturalExamples, top_crops
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
from diffprog.visualize.penalties import boundary_complexity, fine_detail, l1, l2, opacity, total_variation
from diffprog.visualize.recipes import RECIPES, Recipe, accentuate, recipe
from diffprog.visualize.rendering import Rendering, render
from diffprog.visualize.scoring import Scores, score
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
    "COLOURS", "RECIPES", "Atlas", "Dream", "Facet", "Grid", "NaturalExamples", "Objective", "Parameterisation",
    "Recipe", "Rendering", "Scores", "Transform", "accentuate", "activation_atlas", "activation_grid", "alignment",
    "alpha", "blend", "blur", "boundary_complexity", "caricature", "chain", "channel", "colour_shift", "colours_of",
    "cosine", "covariance_of", "cppn", "crop", "difference", "direction", "direction_at", "diversity", "dream",
    "dream_video", "facet", "facets", "fine_detail", "flip", "fourier", "gentle", "guide", "interpolate", "jitter",
    "l1", "l2", "layer", "log_probability", "logit", "lucid", "maco", "masked", "natural", "neuron", "noise",
    "objective", "opacity", "pad", "pixels", "pyramid", "recipe", "render", "render_all", "resize", "rotate", "scale",
    "score", "shared", "slope_of", "spectrum_of", "still", "style_difference", "tensor_direction", "top_crops",
    "total_variation", "tsne", "wide",
]
