"""Small random motions of the picture, so that what is found does not hang on single pixels (Olah et al. 2017).

Each transform maps a few random numbers to an affine map, and says by how many pixels it grows the canvas. A chain
multiplies the maps and samples the image *once*, bilinearly: a chain of any length costs one gather and blurs once.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import jax
import jax.numpy as jnp

FILL = 0.5  # grey beyond the picture's edge


class Transform(NamedTuple):
    """growth: pixels added to height and to width. count: how many random numbers it takes.
    matrix: `matrix(numbers)`, of that many uniform numbers in [0, 1), is the 3 x 3 map from positions
    (row, column, 1) in the result to positions in the image, both counted from the centre."""

    growth: int
    count: int
    matrix: Callable

    def size(self, height, width):
        """The height and width of the results, for images of such a size."""
        return height + self.growth, width + self.growth

    def draw(self, key):
        """A random 3 x 3 map."""
        return self.matrix(jax.random.uniform(key, (self.count,)))

    def __call__(self, key, image):
        """One random result: (height, width, c) -> (height + growth, width + growth, c), differentiable."""
        return sample(image, self.draw(key), *self.size(*image.shape[:2]))


@lru_cache
def pad(pixels):
    """A border of grey, `pixels` wide on each side: units cannot count on the picture's edge."""
    return Transform(2 * pixels, 0, lambda _: jnp.eye(3))


@lru_cache
def jitter(pixels):
    """Crop `pixels` off height and width, at a random place (a whole pixel, so that it does not blur)."""

    def matrix(numbers):
        return jnp.eye(3).at[:2, 2].set(jnp.floor(numbers * (pixels + 1)) - pixels / 2)

    return Transform(-pixels, 2, matrix)


@lru_cache
def scale(low, high):
    """Enlarge about the centre by a factor drawn uniformly from [low, high]."""

    def matrix(numbers):
        shrink = 1 / (low + (high - low) * numbers[0])
        return jnp.diag(jnp.stack([shrink, shrink, jnp.ones(())]))

    return Transform(0, 1, matrix)


@lru_cache
def rotate(degrees):
    """Rotate about the centre by an angle drawn uniformly from [-degrees, degrees]."""

    def matrix(numbers):
        angle = jnp.deg2rad(degrees * (2 * numbers[0] - 1))
        cosine, sine, zero, one = jnp.cos(angle), jnp.sin(angle), jnp.zeros(()), jnp.ones(())
        return jnp.stack([cosine, sine, zero, -sine, cosine, zero, zero, zero, one]).reshape(3, 3)

    return Transform(0, 1, matrix)


@lru_cache
def chain(*transforms):
    """The transforms one after the other, each drawn independently, as one transform."""
    ends = list(accumulate((transform.count for transform in transforms), initial=0))

    def matrix(numbers):
        product = jnp.eye(3)
        for transform, end in zip(transforms, ends[1:], strict=True):
            product = product @ transform.matrix(numbers[end - transform.count : end])
        return product

    return Transform(sum(transform.growth for transform in transforms), ends[-1], matrix)


def sample(image, matrix, height, width):
    """Bilinear values of an image (h, w, c) at the positions `matrix` @ (row, column, 1), counted from the centres.

    Beyond the edge the image goes on as grey, faded in over one pixel.
    """
    rows = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    columns = jnp.arange(width, dtype=jnp.float32)[None] - (width - 1) / 2
    y = matrix[0, 0] * rows + matrix[0, 1] * columns + matrix[0, 2] + (image.shape[0] - 1) / 2
    x = matrix[1, 0] * rows + matrix[1, 1] * columns + matrix[1, 2] + (image.shape[1] - 1) / 2
    flat = (jnp.asarray(image) - FILL).reshape(-1, image.shape[-1])
    return FILL + sum(_corner(flat, image.shape, y, x, down, right) for down in (0, 1) for right in (0, 1))


def _corner(flat, shape, y, x, down, right):
    """The share of one of the four pixels around each position (y, x)."""
    row, column = jnp.floor(y) + down, jnp.floor(x) + right
    weight = (1 - jnp.abs(y - row)) * (1 - jnp.abs(x - column))
    inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    index = jnp.where(inside, row * shape[1] + column, 0).astype(jnp.int32)
    return jnp.where(inside, weight, 0)[..., None] * flat.at[index].get(mode="promise_in_bounds")


still = chain()
lucid = chain(pad(12), jitter(8), scale(0.9, 1.1), rotate(10), jitter(4))
gentle = chain(pad(6), jitter(8), scale(0.95, 1.05), rotate(5), jitter(4))
wide = chain(pad(10), jitter(20), scale(0.75, 1.25), rotate(15))
