"""Pictures as pixels."""

from diffprog.visualize.parameterisations.base import each, normal, remembered
from diffprog.visualize.parameterisations.colours import from_image, matrix_of, to_image


@remembered
def pixels(height, width=None, *, channels=3, colours=False, deviation=0.01):
    """Plain pixels behind a sigmoid: the baseline, which mostly finds noise.

    colours: as for `fourier`, but off by default. deviation: of the random start.
    """
    width, matrix = width or height, matrix_of(colours, channels)
    return each(
        height,
        width,
        channels,
        start=lambda key: deviation * normal(key, (channels, height, width)),
        decode=lambda planes: to_image(planes, matrix),
        encode=lambda image: from_image(image, matrix),
    )
