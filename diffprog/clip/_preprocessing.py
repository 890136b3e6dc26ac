"""Photographs of any size to the squares that CLIP sees: the short side resized, the middle cropped, normalized.

The original resizes by Pillow, in bytes. Here the same filter is applied to floats, so that the picture has a gradient:
values are clipped where Pillow clips them and not rounded, which differs by a third of a step of 1/255 in the mean and
by one step at most. (Since Pillow 13 some tall pictures have their height resized first: clipped pixels differ more.)
"""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.promotion import own_promotion

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
SLACK = 1e-6  # rounding of white and black, beyond which values are clipped; within it they keep their gradient


class Preprocessing(NamedTuple):
    """What becomes of a picture.

    Attributes:
      size: Side of the square, in pixels.
      mean: What is subtracted from red, green and blue.
      std: What they are divided by then.
    """

    size: int
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD


def cropped(images: jax.Array | np.ndarray, size: int) -> jax.Array | np.ndarray:
    """Resize the short side of images to a size, bicubically with antialiasing, and cut out the central square.

    Args:
      images: float32 (n, height, width, channels) in [0, 1].
      size: Side of the square in pixels.

    Returns:
      float32 (n, size, size, channels) in [0, 1]: of NumPy's arrays one of NumPy's; of JAX's one of JAX's, with a
      gradient, and with values that rounding may have put beside the range.
    """
    if images.shape[1:3] == (size, size):
        return images
    height, width = images.shape[1:3]
    down, across = _resampling(height, width, size), _resampling(width, height, size)
    if isinstance(images, np.ndarray):
        return _applied(images, down, across, np.matmul, lambda x: x.clip(0, 1))
    with own_promotion():
        return _applied(images, down, across, partial(jnp.matmul, precision="highest"), _clipped)


def _applied(images, down, across, matmul, clip):
    """Resample along the width and then along the height, each a product with a matrix."""
    count, height, _, channels = images.shape
    rows = clip(matmul(across, images)).reshape(count, height, len(down) * channels)
    return clip(matmul(down, rows)).reshape(count, len(down), len(down), channels)


def _clipped(x):
    return jnp.where((x >= -SLACK) & (x <= 1 + SLACK), x, x.clip(0, 1))


@lru_cache(maxsize=256)
def _resampling(length: int, other: int, size: int) -> np.ndarray:
    """Make the matrix (size, length) that resizes an axis, so that the shorter one has a size, and keeps its middle.

    References:
      Keys, "Cubic convolution interpolation for digital image processing", 1981 (a = -1/2); Pillow widens the kernel by
      the factor by which an image shrinks, and scales the weights within it to a sum of 1.
    """
    resized = max(size, int(size * length / min(length, other)))  # rounded down, as torchvision does
    start = round((resized - size) / 2)
    step = length / resized
    reach = 2 * max(step, 1.0)
    centers = (np.arange(start, start + size) + 0.5)[:, None] * step
    places = np.arange(length)[None] + 0.5
    inside = (places >= np.floor(centers - reach + 0.5) + 0.5) & (places <= np.floor(centers + reach + 0.5) - 0.5)
    weights = np.where(inside, _cubic((places - centers) / max(step, 1.0)), 0.0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _cubic(x):
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@own_promotion()
def prepared(images: jax.Array, preprocessing: Preprocessing) -> jax.Array:
    """Crop and normalize images: (n, height, width, 3) in [0, 1] to (n, size, size, 3)."""
    shift, scale = np.asarray(preprocessing.mean, np.float32), np.asarray(preprocessing.std, np.float32)
    return (jnp.asarray(cropped(jnp.asarray(images, jnp.float32), preprocessing.size)) - shift) / scale
