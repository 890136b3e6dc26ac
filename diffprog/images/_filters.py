"""Filters of image arrays, differentiable and traceable."""

from typing import Literal

import jax
import jax.numpy as jnp

EDGES = {"repeat": "edge", "zero": "constant"}  # what `jnp.pad` calls them


def gaussian_blur(
    images: jax.Array, deviation: float | jax.Array, radius: int, edge: Literal["repeat", "zero"] = "repeat"
) -> jax.Array:
    """Blur images by a Gaussian.

    Args:
      images: Array (..., height, width, channels).
      deviation: Standard deviation in pixels; may be traced. Below 0.001, nothing is blurred.
      radius: Pixels from its center at which the Gaussian is cut off. The weights within are scaled to a sum of 1.
      edge: Beyond the edge, "repeat" the last pixels or take "zero".

    Returns:
      Array of the shape of `images`.
    """
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    weights = jax.nn.softmax(-((offsets / jnp.maximum(deviation, 1e-3)) ** 2) / 2)
    return separable_blur(images, weights, edge)


def separable_blur(images: jax.Array, weights: jax.Array, edge: Literal["repeat", "zero"] = "repeat") -> jax.Array:
    """Blur images by a kernel that is the product of one for rows and the same for columns.

    Args:
      images: Array (..., height, width, channels).
      weights: Array (2 * radius + 1,).
      edge: Beyond the edge, "repeat" the last pixels or take "zero".

    Returns:
      Array of the shape of `images`.
    """
    radius = len(weights) // 2
    for axis in (images.ndim - 3, images.ndim - 2):
        length = images.shape[axis]
        margins = [(radius, radius) if axis == other else (0, 0) for other in range(images.ndim)]
        padded = jnp.pad(images, margins, mode=EDGES[edge])
        shifted = (jax.lax.slice_in_dim(padded, start, start + length, axis=axis) for start in range(2 * radius + 1))
        images = sum(weight * part for weight, part in zip(weights, shifted, strict=True))
    return images


def resize_linear(array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Resample an array bilinearly; axes that shrink are averaged over as much as they shrink."""
    return jax.image.resize(array, shape, "linear", precision="highest")
