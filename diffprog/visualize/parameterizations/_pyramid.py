"""Pictures as sums of coarse and fine ones."""

from itertools import pairwise

import jax

from diffprog._util.factory import factory
from diffprog.images._filters import resize_linear
from diffprog.visualize.parameterizations._base import each, normal
from diffprog.visualize.parameterizations._colors import from_image, matrix_of, to_image


@factory
def pyramid(height, width=None, *, channels=3, colors=True, levels=4, deviation=0.01):
    """A Laplacian pyramid (Burt and Adelson 1983): pixels, and pixels of half the size, and so on, added up.

    levels: how many sizes. Each is enlarged to the next finer one bilinearly. colors: as for `fourier`. deviation: of
    the random start of every level. Raises ValueError if the coarsest level would have no pixels.
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

    return each(height, width, channels, start, decode, encode)
