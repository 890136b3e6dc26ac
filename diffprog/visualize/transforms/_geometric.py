"""Motions of the picture.

Each maps a few random numbers to an affine map, and says by how many pixels it grows the canvas. A chain of them
multiplies the maps and samples the image *once*, bilinearly: a chain of any length costs one gather and blurs once.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from math import cos, prod, radians, sin
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffprog.images._sampling import sample

FILL = 0.5  # gray beyond the picture's edge


class Affine(NamedTuple):
    """growth: pixels added to height and to width. count: how many random numbers it takes.
    matrix: `matrix(numbers)`, of that many uniform numbers in [0, 1), is the 3 x 3 map from positions
    (row, column, 1) in the result to positions in the image, both counted from the center.
    reach: from how far, in pixels of the result, a pixel of the image is read at most: a bound on the sums of sizes in
    the rows of the inverse of the map's 2 x 2 part, 1 for shifts. Were it too small, gradients would be wrong."""

    growth: int
    count: int
    matrix: Callable
    reach: float

    def size(self, height, width):
        """The height and width of the results, for images of such a size."""
        return height + self.growth, width + self.growth

    def draw(self, key):
        """A random 3 x 3 map."""
        return self.matrix(jax.random.uniform(key, (self.count,)))

    def __call__(self, key, image):
        """One random result: (height, width, c) -> (height + growth, width + growth, c), differentiable."""
        return sample(image, self.draw(key), *self.size(*image.shape[:2]), self.reach, FILL)


@lru_cache
def pad(pixels):
    """A border of gray, `pixels` wide on each side: units cannot count on the picture's edge."""
    return Affine(2 * pixels, 0, lambda _: jnp.eye(3), 1)


@lru_cache
def jitter(pixels):
    """Crop `pixels` off height and width, at a random place (a whole pixel, so that it does not blur)."""

    def matrix(numbers):
        return jnp.eye(3).at[:2, 2].set(jnp.floor(numbers * (pixels + 1)) - pixels / 2)

    return Affine(-pixels, 2, matrix, 1)


@lru_cache
def scale(low, high):
    """Enlarge about the center by a factor drawn uniformly from [low, high]."""

    def matrix(numbers):
        shrink = 1 / (low + (high - low) * numbers[0])
        return jnp.diag(jnp.stack([shrink, shrink, jnp.ones(())]))

    return Affine(0, 1, matrix, high)


@lru_cache
def rotate(degrees):
    """Rotate about the center by an angle drawn uniformly from [-degrees, degrees]."""

    def matrix(numbers):
        angle = jnp.deg2rad(degrees * (2 * numbers[0] - 1))
        cosine, sine, zero, one = jnp.cos(angle), jnp.sin(angle), jnp.zeros(()), jnp.ones(())
        return jnp.stack([cosine, sine, zero, -sine, cosine, zero, zero, zero, one]).reshape(3, 3)

    return Affine(0, 1, matrix, cos(radians(min(degrees, 45))) + sin(radians(min(degrees, 45))))


@lru_cache
def flip():
    """Mirror left and right in half of the draws."""
    return Affine(0, 1, lambda numbers: jnp.diag(jnp.ones(3).at[1].set(jnp.where(numbers[0] < 0.5, -1, 1))), 1)


def combined(*motions):
    """The motions one after the other, each drawn independently, as one motion."""
    ends = list(accumulate((motion.count for motion in motions), initial=0))

    def matrix(numbers):
        product = jnp.eye(3)
        for motion, end in zip(motions, ends[1:], strict=True):
            product = product @ motion.matrix(numbers[end - motion.count : end])
        return product

    return Affine(sum(m.growth for m in motions), ends[-1], matrix, prod(m.reach for m in motions))
