"""Motions of the picture.

Each maps a few random numbers to an affine map, and says by how many pixels it grows the canvas. A chain of motions
multiplies the maps and samples the image once, bilinearly: a chain of any length costs one gather and blurs once.
"""

from collections.abc import Callable
from itertools import accumulate
from math import cos, prod, radians, sin
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffprog._util.factory import factory
from diffprog.images._sampling import sample

FILL = 0.5  # gray beyond the picture's edge


class Affine(NamedTuple):
    """A random motion.

    Attributes:
      growth: Pixels added to height and to width.
      num_draws: How many random numbers the motion takes.
      matrix: `matrix(draws)`, of that many uniform numbers in [0, 1), is the 3 x 3 map from positions (row, column, 1)
        in the result to positions in the image, both counted from the center.
      reach: A bound on the distance, in pixels of the result, from which a pixel of the image is read: on the sums of
        sizes in the rows of the inverse of the map's 2 x 2 part, 1 for shifts. Too small a bound makes gradients wrong.
    """

    growth: int
    num_draws: int
    matrix: Callable[[jax.Array], jax.Array]
    reach: float

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Compute the height and width of results.

        Args:
          height: Height of an image.
          width: Width of an image.

        Returns:
          Height and width of its results.
        """
        return height + self.growth, width + self.growth

    def draw(self, key: jax.Array) -> jax.Array:
        """Draw a random map.

        Args:
          key: A JAX random key.

        Returns:
          Array (3, 3).
        """
        # A matrix of one's own may have JAX's default type, which is wider under x64.
        return jnp.asarray(self.matrix(jax.random.uniform(key, (self.num_draws,), jnp.float32)), jnp.float32)

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Draw one random result: (height, width, c) -> (height + growth, width + growth, c), differentiable."""
        return sample(image, self.draw(key), *self.size(*image.shape[:2]), self.reach, FILL)


@factory
def pad(pixels: int) -> Affine:
    """Pad the picture with gray: units cannot count on its edge.

    Args:
      pixels: Width of the border on each side.

    Returns:
      A transform.
    """
    return Affine(2 * pixels, 0, lambda _: jnp.eye(3, dtype=jnp.float32), 1)


@factory
def jitter(pixels: int) -> Affine:
    """Crop height and width at a random place, a whole pixel, so that nothing is blurred.

    Args:
      pixels: How many are cropped off height and width.

    Returns:
      A transform.
    """

    def matrix(draws):
        return jnp.eye(3, dtype=jnp.float32).at[:2, 2].set(jnp.floor(draws * (pixels + 1)) - pixels / 2)

    return Affine(-pixels, 2, matrix, 1)


@factory
def scale(low: float, high: float) -> Affine:
    """Enlarge the picture about its center.

    Args:
      low: The smallest factor.
      high: The largest factor; factors are drawn uniformly.

    Returns:
      A transform.
    """

    def matrix(draws):
        shrink = 1 / (low + (high - low) * draws[0])
        return jnp.diag(jnp.stack([shrink, shrink, jnp.float32(1)]))

    return Affine(0, 1, matrix, high)


@factory
def rotate(degrees: float) -> Affine:
    """Rotate the picture about its center.

    Args:
      degrees: Angles are drawn uniformly from [-degrees, degrees].

    Returns:
      A transform.
    """

    def matrix(draws):
        angle = jnp.deg2rad(degrees * (2 * draws[0] - 1))
        cosine, sine, zero, one = jnp.cos(angle), jnp.sin(angle), jnp.float32(0), jnp.float32(1)
        return jnp.stack([cosine, sine, zero, -sine, cosine, zero, zero, zero, one]).reshape(3, 3)

    return Affine(0, 1, matrix, cos(radians(min(degrees, 45))) + sin(radians(min(degrees, 45))))


@factory
def flip() -> Affine:
    """Mirror left and right in half of the draws.

    Returns:
      A transform.
    """
    return Affine(0, 1, lambda draws: jnp.diag(jnp.ones(3, jnp.float32).at[1].set(jnp.where(draws[0] < 0.5, -1, 1))), 1)


def combined(*motions: Affine) -> Affine:
    """Combine motions, each drawn independently, into one."""
    ends = list(accumulate((motion.num_draws for motion in motions), initial=0))

    def matrix(draws):
        product = jnp.eye(3, dtype=jnp.float32)
        for motion, end in zip(motions, ends[1:], strict=True):
            product = product @ motion.matrix(draws[end - motion.num_draws : end])
        return product

    return Affine(sum(m.growth for m in motions), ends[-1], matrix, prod(m.reach for m in motions))
