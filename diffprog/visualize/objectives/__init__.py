"""Objectives: what a picture is to excite.

An objective gives each picture of a batch a score, which is maximized. Objectives are added, subtracted and multiplied
by numbers. What a picture should have little of is in `diffprog.visualize.penalties`.
"""

from diffprog.visualize.objectives._base import Objective, Term, objective
from diffprog.visualize.objectives._comparisons import (
    alignment,
    caricature,
    difference,
    diversity,
    guide,
    interpolate,
    style_difference,
    tensor_direction,
)
from diffprog.visualize.objectives._facets import Facet, facet, facets
from diffprog.visualize.objectives._units import (
    channel,
    class_of,
    cosine,
    direction,
    direction_at,
    layer,
    log_probability,
    logit,
    neuron,
)

__all__ = [
    "Facet",
    "Objective",
    "Term",
    "alignment",
    "caricature",
    "channel",
    "class_of",
    "cosine",
    "difference",
    "direction",
    "direction_at",
    "diversity",
    "facet",
    "facets",
    "guide",
    "interpolate",
    "layer",
    "log_probability",
    "logit",
    "neuron",
    "objective",
    "style_difference",
    "tensor_direction",
]
