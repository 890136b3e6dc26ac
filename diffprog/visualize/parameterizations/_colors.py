"""Colors in coordinates in which those of photographs vary independently, and the way from there to [0, 1]."""

import jax
import jax.numpy as jnp
import numpy as np

# A square root of the covariance of colors in ImageNet, rows R, G, B (Lucid), scaled so that its longest column is 1.
COLORS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)
COLORS /= np.linalg.norm(COLORS, axis=0).max()

MARGIN = 0.01  # a picture that is encoded keeps this distance from black and white, whose logits are infinite


def matrix_of(colors, channels):
    """The (channels, channels) matrix that an argument `colors` of a parameterization stands for.

    True is `COLORS` where there are three channels and no mixing where there are not, False is no mixing; else a
    matrix. Raises ValueError for a matrix of another shape, or one that cannot be inverted.
    """
    if isinstance(colors, bool):
        return COLORS if colors and channels == 3 else np.eye(channels, dtype=np.float32)
    matrix = np.asarray(colors, np.float32)
    if matrix.shape != (channels, channels):
        raise ValueError(f"colors for {channels} channels need shape {(channels, channels)}; found {matrix.shape}")
    if not np.linalg.cond(matrix) < 1e5:  # written so that a NaN is refused
        raise ValueError("colors must be a matrix that can be inverted; do some channels always agree?")
    return matrix


def to_image(planes, matrix):
    """Independent colors (c, height, width), any real numbers, to an image (height, width, c) in (0, 1)."""
    return jax.nn.sigmoid(mixed(planes, matrix))


def mixed(planes, matrix):
    """The colors (height, width, c) before the sigmoid. As sums of planes: a product of so small a matrix is slow."""
    rows = [[(share, plane) for share, plane in zip(row.tolist(), planes, strict=True) if share] for row in matrix]
    return jnp.stack([sum(share * plane for share, plane in row) for row in rows], axis=-1)


def from_image(image, matrix, margin=MARGIN):
    """The independent colors (c, height, width) of an image, whose values are first drawn `margin` from 0 and 1."""
    planes = jnp.moveaxis(logits(image, margin), -1, 0)
    return jnp.moveaxis(mixed(planes, np.linalg.inv(matrix.astype(np.float64))), -1, 0)


def logits(image, margin):
    """The inverse of the sigmoid, for values in [margin, 1 - margin]; others are drawn there."""
    image = jnp.clip(image, margin, 1 - margin)
    return jnp.log(image) - jnp.log1p(-image)


def covariance_of(images):
    """The covariance (c, c) of the colors of all pixels of `images`, about each image's own mean.

    images: arrays (height, width, c), or a batch (n, height, width, c); every image counts the same.
    """
    pixels = [np.reshape(image, (-1, np.shape(image)[-1])) for image in checked(images)]
    return np.mean([np.cov(colors.T, bias=True) for colors in pixels], axis=0)


def checked(images):
    """The images; ValueError unless there is at least one and each is (height, width, channels)."""
    shapes = [np.shape(image) for image in images]
    if not shapes or any(len(shape) != 3 for shape in shapes):
        found = next((shape for shape in shapes if len(shape) != 3), "none")
        raise ValueError(f"images must be a list of arrays (height, width, channels); found {found}")
    return images


def colors_of(images):
    """A matrix for the argument `colors` of a parameterization, from images of your own: float32 (c, c).

    It is the square root U sqrt(S) of their covariance U S U^T, largest variance first, divided by the length of its
    longest column: coordinates that vary independently and alike become colors that vary together as those of the
    images do. `COLORS` is the same of ImageNet. Raises ValueError if there is no image or no variation.
    """
    variances, axes = np.linalg.eigh(covariance_of(images))
    if not variances[-1] > 0:
        raise ValueError("the images have a single color; give images whose colors vary")
    axes = axes * np.where(axes.sum(axis=0) < 0, -1, 1)  # an eigenvector's sign is arbitrary: more is brighter
    root = (axes * np.sqrt(np.maximum(variances, 0)))[:, ::-1]
    return (root / np.linalg.norm(root, axis=0).max()).astype(np.float32)
