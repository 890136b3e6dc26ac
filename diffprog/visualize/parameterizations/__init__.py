"""Parameterizations: how a picture is written. Gradient ascent moves the parameters, `decode` makes an image of them.

The optimum is the same in any parameterization, the path is not. In pixels, ascent finds high frequencies first; in
decorrelated colors and frequencies of equal standing, it finds pictures (Olah et al. 2017, "Feature Visualization",
section "Preconditioning and parameterization").
"""

from diffprog.visualize.parameterizations._base import Parameterization
from diffprog.visualize.parameterizations._colors import COLORS, colors_of, covariance_of
from diffprog.visualize.parameterizations._composite import alpha, masked, shared
from diffprog.visualize.parameterizations._cppn import cppn
from diffprog.visualize.parameterizations._fourier import fourier
from diffprog.visualize.parameterizations._maco import maco
from diffprog.visualize.parameterizations._natural_statistics import Natural, natural, slope_of, spectrum_of
from diffprog.visualize.parameterizations._pixels import pixels
from diffprog.visualize.parameterizations._pyramid import pyramid

__all__ = [
    "COLORS",
    "Natural",
    "Parameterization",
    "alpha",
    "colors_of",
    "covariance_of",
    "cppn",
    "fourier",
    "maco",
    "masked",
    "natural",
    "pixels",
    "pyramid",
    "shared",
    "slope_of",
    "spectrum_of",
]
