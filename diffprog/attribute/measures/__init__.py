"""Measures of attributions: are they right, and are they any good?

Measures that ask the model are functions

    MEASURE(model, inputs, attribution, score, *, ...) -> Measured

of the same model, inputs and score as the method's, and of the `Attribution` or its values; `max_sensitivity` and
`randomization` take the method itself in its place, and those that compare a map with a place or look at the map alone
need no model. Each gives one number per example, in double precision, that depends on no other example; what samples
gives its standard error. `MEASURES` says of each what is better.

No measure is the truth. Those that take features away ask the network about pictures that it has never seen; those that
compare with a mask ask whether the network looks where a person would.
"""

from diffprog.attribute.measures._curves import deletion, insertion
from diffprog.attribute.measures._infidelity import infidelity
from diffprog.attribute.measures._localization import Mosaics, energy, grid_pointing, mosaics, pointing_game
from diffprog.attribute.measures._measured import Measured
from diffprog.attribute.measures._randomization import randomization
from diffprog.attribute.measures._registry import MEASURES, MeasureInfo
from diffprog.attribute.measures._removal import road
from diffprog.attribute.measures._sensitivity import max_sensitivity
from diffprog.attribute.measures._shape import complexity, sparseness
from diffprog.attribute.measures._subsets import mu_fidelity, sensitivity_n

__all__ = [
    "MEASURES",
    "MeasureInfo",
    "Measured",
    "Mosaics",
    "complexity",
    "deletion",
    "energy",
    "grid_pointing",
    "infidelity",
    "insertion",
    "max_sensitivity",
    "mosaics",
    "mu_fidelity",
    "pointing_game",
    "randomization",
    "road",
    "sensitivity_n",
    "sparseness",
]
