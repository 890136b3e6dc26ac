"""How a picture is parameterised: gradient ascent moves the parameters, and `decode` turns them into an image.

The optimum is the same in any parameterisation, the path is not. In pixels, ascent finds high frequencies first;
in decorrelated colours and frequencies of equal standing, it finds pictures (Olah et al. 2017, "Feature
Visualization", section "Preconditioning and parameterization").
"""

from diffprog.visualize.parameterisations.base import Parameterisation
from diffprog.visualize.parameterisations.colours import COLOURS, colours_of
from diffprog.visualize.parameterisations.fourier import fourier
from diffprog.visualize.parameterisations.pixels import pixels

__all__ = ["COLOURS", "Parameterisation", "colours_of", "fourier", "pixels"]
