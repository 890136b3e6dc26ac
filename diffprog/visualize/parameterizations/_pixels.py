"""Pictures as pixels."""

from diffprog._util.factory import factory
from diffprog.visualize.parameterizations._base import each, normal
from diffprog.visualize.parameterizations._colors import from_image, matrix_of, to_image


@factory
def pixels(height, width=None, *, channels=3, colors=False, deviation=0.01):
    """Plain pixels behind a sigmoid: the baseline, which mostly finds noise.

    colors: as for `fourier`, but off by default. deviation: of the random start.
    """
    width, matrix = width or height, matrix_of(colors, channels)
    return each(
        height,
        width,
        channels,
        start=lambda key: deviation * normal(key, (channels, height, width)),
        decode=lambda planes: to_image(planes, matrix),
        encode=lambda image: from_image(image, matrix),
    )
