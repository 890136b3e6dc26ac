"""Functions whose minima are known: what optimizers are shown, tested and compared on."""

from diffprog.optimize.problems.functions import (
    ACKLEY,
    BEALE,
    DISTILL,
    FUNCTIONS,
    HIMMELBLAU,
    RASTRIGIN,
    ROSENBROCK,
    STYBLINSKI_TANG,
)
from diffprog.optimize.problems.more_garbow_hillstrom import MORE_GARBOW_HILLSTROM
from diffprog.optimize.problems.nist import NIST_NAMES, nist
from diffprog.optimize.problems.problem import Problem

__all__ = [
    "ACKLEY",
    "BEALE",
    "DISTILL",
    "FUNCTIONS",
    "HIMMELBLAU",
    "MORE_GARBOW_HILLSTROM",
    "NIST_NAMES",
    "RASTRIGIN",
    "ROSENBROCK",
    "STYBLINSKI_TANG",
    "Problem",
    "nist",
]
