"""Pictures as sums of coarse and fine ones."""

from itertools import pairwise

import jax
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog.images._filters import resize_linear
from diffprog.visualize.parameterizations._base import Parameterization, from_single, normal
from diffprog.visualize.parameterizations._colors import from_image, matrix_of, to_image


@factory
def pyramid(
    height: int,
    width: int | None = None,
    *,
    channels: int = 3,
    colors: bool | ArrayLike = True,
    levels: int = 4,
    deviation: float = 0.01,
) -> Parameterization:
    """Write pictures as a Laplacian pyramid: pixels, pixels of twice the size, and so on, added up.

    Each level is enlarged bilinearly to the next finer one.

    Args:
      height: Height of the pictures in pixels.
      width: Width of the pictures in pixels; the height by default.
      channels: Number of channels.
      colors: True for the colors of photographs (`COLORS`) where there are three channels, False for independent
        channels, or a matrix of your own (`colors_of`).
      levels: Number of sizes.
      deviation: Standard deviation of the random start.

    Returns:
      A `Parameterization`.

    Raises:
      ValueError: The coarsest level would have no pixels.

    References:
      Burt and Adelson 1983.
    """
    width, matrix = width or height, matrix_of(colors, channels)
    sizes = [(-(-height // 2**level), -(-width // 2**level)) for level in range(levels)]  # fine to coarse
    if levels < 1 or min(height, width) < 2 ** (levels - 1):
        raise ValueError(f"{height} x {width} pixels have no pyramid of {levels} levels; ask for fewer")

    def start(key):
        keys = jax.random.split(key, levels)
        return [deviation * normal(k, (channels, *size)) for k, size in zip(keys, sizes, strict=True)]

    def decode(parameters):
        picture = parameters[-1]
        for detail in parameters[-2::-1]:
            picture = detail + resize_linear(picture, detail.shape)
        return to_image(picture, matrix)

    def encode(image):
        pictures = [from_image(image, matrix)]
        for size in sizes[1:]:
            pictures.append(resize_linear(pictures[-1], (channels, *size)))
        details = [fine - resize_linear(coarse, fine.shape) for fine, coarse in pairwise(pictures)]
        return [*details, pictures[-1]]

    return from_single(height, width, channels, start, decode, encode)
