"""Checks of image arrays, at the border of whatever takes them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import Tracer


def check_images(
    images: Any, channels: int | None = None, min_size: int = 1, name: str = "images", rank: int = 4
) -> jax.Array:
    """Check a batch of images.

    Under a transformation of JAX the values are unknown, and only type and shape are checked.

    Args:
      images: Floats (n, height, width, channels) in [0, 1].
      channels: Number of channels; any number by default.
      min_size: The smallest height and width, in pixels.
      name: The argument's name, for messages.
      rank: Number of axes, which is not 4 for inputs that are no pictures.

    Returns:
      The images as a float32 array.

    Raises:
      ValueError: For another type, shape, size or range. The message says what was found and what to do.
    """
    known = not isinstance(images, Tracer)
    images = np.asarray(images) if known else images
    shape, dtype = images.shape, images.dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        hint = "divide bytes by 255" if dtype == np.uint8 else "convert them"
        raise ValueError(f"{name} must be float32 in [0, 1]; found {dtype}{_range(images)}: {hint}")
    if len(shape) != rank or channels not in (None, shape[-1]):
        single = len(shape) == rank - 1 and channels in (None, *shape[-1:])
        hint = f"add a batch axis with {name}[None]" if single else "channels come last"
        sides = {2: "n", 3: "n, length", 4: "n, height, width"}.get(rank, "n, ...")
        wanted = f"({sides}, {'channels' if channels is None else channels})"
        raise ValueError(f"{name} must have shape {wanted}; found {shape}: {hint}")
    if rank == 4 and min(shape[1:3]) < min_size:
        raise ValueError(f"{name} must be {min_size} pixels or more; found {shape[1]} x {shape[2]}: enlarge them")
    if known:
        check_unit_range(images, name)
    return jnp.asarray(images, jnp.float32)


def check_array(array: Any, shapes: tuple[tuple[int, ...], ...], name: str) -> np.ndarray:
    """Check one picture, mask or batch: an array of one of some shapes, with values in [0, 1].

    Returns:
      The array as float32.
    """
    array = np.asarray(array, np.float32)
    if array.shape not in shapes:
        wanted = " or ".join(map(str, dict.fromkeys(shapes)))
        raise ValueError(f"{name} must have shape {wanted}; found {array.shape}: resize it")
    check_unit_range(array, name)
    return array


def check_unit_range(images: np.ndarray, name: str) -> None:
    """Raise ValueError unless all values are in [0, 1]."""
    if not np.all((images >= 0) & (images <= 1)):  # written so that a NaN is outside
        raise ValueError(f"{name} must be in [0, 1]; found{_range(images)}: are they already normalized?")


def _range(images) -> str:
    """Write the range of values for a message; nothing for values that are unknown, absent or no numbers."""
    if isinstance(images, Tracer) or not images.size or images.dtype.kind not in "iuf":
        return ""
    return f" {images.min():.4g} .. {images.max():.4g}"
