"""Pictures as pixels."""

from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog.visualize.parameterizations._base import Parameterization, from_single, normal
from diffprog.visualize.parameterizations._colors import from_image, matrix_of, to_image


@factory
def pixels(
    height: int,
    width: int | None = None,
    *,
    channels: int = 3,
    colors: bool | ArrayLike = False,
    deviation: float = 0.01,
) -> Parameterization:
    """Write pictures in plain pixels behind a sigmoid: the baseline, which mostly finds noise.

    Args:
      height: Height of the pictures in pixels.
      width: Width of the pictures in pixels; the height by default.
      channels: Number of channels.
      colors: True for the colors of photographs (`COLORS`) where there are three channels, False for independent
        channels, or a matrix of your own (`colors_of`).
      deviation: Standard deviation of the random start.

    Returns:
      A `Parameterization`.
    """
    width, matrix = width or height, matrix_of(colors, channels)
    return from_single(
        height,
        width,
        channels,
        start=lambda key: deviation * normal(key, (channels, height, width)),
        decode=lambda planes: to_image(planes, matrix),
        encode=lambda image: from_image(image, matrix),
    )
