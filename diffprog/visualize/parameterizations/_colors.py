"""Coordinates in which the colors of photographs vary independently, and the way from there to [0, 1]."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

# A square root of the covariance of colors in ImageNet, rows R, G, B (Lucid), scaled so that its longest column is 1.
COLORS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)
COLORS /= np.linalg.norm(COLORS, axis=0).max()

MARGIN = 0.01  # a picture that is encoded keeps this distance from black and white, whose logits are infinite


def matrix_of(colors: bool | ArrayLike, channels: int) -> np.ndarray:
    """Find the (channels, channels) matrix that an argument `colors` of a parameterization stands for.

    True is `COLORS` for three channels and no mixing for any other number; False is no mixing.

    Raises:
      ValueError: A matrix has another shape or cannot be inverted.
    """
    if isinstance(colors, bool):
        return COLORS if colors and channels == 3 else np.eye(channels, dtype=np.float32)
    matrix = np.asarray(colors, np.float32)
    if matrix.shape != (channels, channels):
        raise ValueError(f"colors for {channels} channels need shape {(channels, channels)}; found {matrix.shape}")
    if not np.linalg.cond(matrix) < 1e5:  # written so that a NaN is refused
        raise ValueError("colors must be a matrix that can be inverted; do some channels always agree?")
    return matrix


def to_image(planes: jax.Array, matrix: np.ndarray) -> jax.Array:
    """Turn independent colors (c, height, width), any real numbers, into an image (height, width, c) in (0, 1)."""
    return jax.nn.sigmoid(mixed(planes, matrix))


def mixed(planes: jax.Array, matrix: np.ndarray) -> jax.Array:
    """Mix the colors (height, width, c) before the sigmoid, as sums: a product of so small a matrix is slow."""
    rows = [[(share, plane) for share, plane in zip(row.tolist(), planes, strict=True) if share] for row in matrix]
    return jnp.stack([sum(share * plane for share, plane in row) for row in rows], axis=-1)


def from_image(image: jax.Array, matrix: np.ndarray, margin: float = MARGIN) -> jax.Array:
    """Find the independent colors (c, height, width) of an image, whose values are first clipped by `margin`."""
    planes = jnp.moveaxis(logits(image, margin), -1, 0)
    return jnp.moveaxis(mixed(planes, np.linalg.inv(matrix.astype(np.float64))), -1, 0)


def logits(image: jax.Array, margin: float) -> jax.Array:
    """Invert the sigmoid, for values clipped to [margin, 1 - margin]."""
    image = jnp.clip(image, margin, 1 - margin)
    return jnp.log(image) - jnp.log1p(-image)


def covariance_of(images: Sequence[np.ndarray]) -> np.ndarray:
    """Measure the covariance of the colors of images, about each image's own mean.

    Args:
      images: Arrays (height, width, c), or a batch (n, height, width, c). Every image counts the same.

    Returns:
      Array (c, c).
    """
    pixels = [np.reshape(image, (-1, np.shape(image)[-1])) for image in check_list(images)]
    return np.mean([np.cov(colors.T, bias=True) for colors in pixels], axis=0)


def check_list(images: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Check that there is at least one image and that each is (height, width, channels)."""
    shapes = [np.shape(image) for image in images]
    if not shapes or any(len(shape) != 3 for shape in shapes):
        shape = next((shape for shape in shapes if len(shape) != 3), "none")
        raise ValueError(f"images must be a list of arrays (height, width, channels); found {shape}")
    return images


def colors_of(images: Sequence[np.ndarray]) -> np.ndarray:
    """Make a matrix for the argument `colors` of a parameterization from images of your own.

    It turns colors that vary independently and alike into colors that vary together as in the images. It is the square
    root U sqrt(S) of their covariance U S U^T, largest variance first, divided by the length of its longest column.
    `COLORS` is the one of ImageNet.

    Args:
      images: Arrays (height, width, c). Every image counts the same.

    Returns:
      float32 array (c, c).

    Raises:
      ValueError: There is no image or no variation.
    """
    variances, axes = np.linalg.eigh(covariance_of(images))
    if not variances[-1] > 0:
        raise ValueError("the images have a single color; give images whose colors vary")
    axes = axes * np.where(axes.sum(axis=0) < 0, -1, 1)  # an eigenvector's sign is arbitrary: more is brighter
    root = (axes * np.sqrt(np.maximum(variances, 0)))[:, ::-1]
    return (root / np.linalg.norm(root, axis=0).max()).astype(np.float32)
