"""How a picture is parameterised: gradient ascent moves the parameters, and `decode` turns them into an image.

The optimum is the same in any parameterisation, the path is not. In pixels, ascent finds high frequencies first;
in decorrelated colours and frequencies of equal standing, it finds pictures (Olah et al. 2017, "Feature
Visualization", section "Preconditioning and parameterization").
"""

from diffprog.visualize.parameterisations.base import Parameterisation
from diffprog.visualize.parameterisations.colours import COLOURS, colours_of, covariance_of
from diffprog.visualize.parameterisations.combining import alpha, masked, shared
from diffprog.visualize.parameterisations.fourier import fourier
from diffprog.visualize.parameterisations.maco import maco
from diffprog.visualize.parameterisations.pattern_network import cppn
from diffprog.visualize.parameterisations.pixels import pixels
from diffprog.visualize.parameterisations.pyramid import pyramid
from diffprog.visualize.parameterisations.spectrum import Natural, natural, slope_of, spectrum_of

__all__ = [
    "COLOURS",
    "Natural",
    "Parameterisation",
    "alpha",
    "colours_of",
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
