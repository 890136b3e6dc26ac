"""Filters: resampling, blur, noise, colors, backgrounds; transforms that are no motion.

Nothing here keeps a picture in [0, 1] by clipping, which would stop the gradient.
"""

from collections.abc import Callable
from math import ceil
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffprog._util.factory import factory
from diffprog.images._filters import gaussian_blur, resize_linear
from diffprog.visualize.parameterizations._colors import logits
from diffprog.visualize.parameterizations._fourier import fourier


class Filter(NamedTuple):
    """A transform that is no motion.

    Attributes:
      apply: `apply(key, image)`, drawn anew for every key.
      size: `size(height, width)` of the results, for images of such a size.
    """

    apply: Callable[[jax.Array, jax.Array], jax.Array]
    size: Callable[[int, int], tuple[int, int]] = lambda height, width: (height, width)

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Draw one random result, differentiable."""
        return self.apply(key, image)


@factory
def crop(size: int, low: float = 0.05, high: float = 0.5, spread: float = 0.15) -> Filter:
    """Show a random square of the picture at a fixed size, as MACO does.

    The square's side is a share of the picture's shorter side, normal with deviation 0.05 about a mean that is itself
    uniform in [low, high], and clipped to [0.05, 1]. A square that would reach over the edge is moved inside.

    Args:
      size: Side of the results in pixels.
      low: The smallest mean share.
      high: The largest mean share.
      spread: Deviation of the square's center about the picture's, as a share of height and width.

    Returns:
      A transform.

    References:
      Fel et al. 2023, "Unlocking feature visualization for deeper networks".
    """

    def apply(key, image):
        mean, side, center = jax.random.split(key, 3)
        side = jax.random.uniform(mean, minval=low, maxval=high) + 0.05 * jax.random.normal(side)
        extent = jnp.asarray(image.shape[:2], jnp.float32)
        side = jnp.clip(side, 0.05, 1) * extent.min()
        corner = extent * (0.5 + spread * jax.random.normal(center, (2,))) - side / 2
        return window(image, jnp.clip(corner, 0, extent - side), side, size)

    return Filter(apply, lambda height, width: (size, size))


def window(image: jax.Array, corner: jax.Array, side: float | jax.Array, size: int) -> jax.Array:
    """Show a square of an image at size x size pixels: bilinear, and averaged where it is made smaller.

    Args:
      image: Array (h, w, c).
      corner: The square's top left corner in pixels.
      side: The square's side in pixels.
      size: Side of the result in pixels.
    """
    scale = jnp.broadcast_to(size / side, 2)
    shape = (size, size, image.shape[-1])
    return jax.image.scale_and_translate(image, shape, (0, 1), scale, -corner * scale, "linear", precision="highest")


@factory
def resize(height: int, width: int | None = None) -> Filter:
    """Resize the picture: bilinear, and averaged where it is made smaller.

    Args:
      height: Height of the results in pixels.
      width: Width of the results; the height by default.

    Returns:
      A transform.
    """
    width = width or height

    def apply(_, image):
        return resize_linear(image, (height, width, image.shape[-1]))

    return Filter(apply, lambda *_: (height, width))


@factory
def blur(low: float, high: float) -> Filter:
    """Blur by a Gaussian; beyond the edge the last pixels go on.

    Args:
      low: The smallest standard deviation in pixels.
      high: The largest; deviations are drawn uniformly.

    Returns:
      A transform.
    """
    radius = ceil(3 * high)

    def apply(key, image):
        return gaussian_blur(image, jax.random.uniform(key, minval=low, maxval=high), radius)

    return Filter(apply)


@factory
def noise(deviation: float = 0.0, span: float = 0.0) -> Filter:
    """Add noise, drawn for every value alone.

    Args:
      deviation: Standard deviation of normal noise.
      span: Uniform noise in [-span, span] is added to it.

    Returns:
      A transform.
    """

    def apply(key, image):
        normal, uniform = jax.random.split(key)
        shift = jax.random.uniform(uniform, image.shape, minval=-span, maxval=span)
        return image + deviation * jax.random.normal(normal, image.shape) + shift

    return Filter(apply)


@factory
def color_shift(shift: float = 1.0, spread: float = 1.0) -> Filter:
    """Change the brightness and contrast of each channel.

    The logits x of the colors become (x - m) / exp(s), so that results are in (0, 1). Values nearer than 0.001 to 0 or
    1 count as that.

    Args:
      shift: m is uniform in [-shift, shift].
      spread: s is uniform in [-spread, spread].

    Returns:
      A transform.

    References:
      Ghiasi et al. 2022, "What do vision transformers learn?", there of normalized colors.
    """

    def apply(key, image):
        m, s = jax.random.uniform(key, (2, image.shape[-1]), minval=-1, maxval=1)
        return jax.nn.sigmoid((logits(image, 1e-3) - shift * m) / jnp.exp(spread * s))

    return Filter(apply)


@factory
def blend(deviation: float = 0.5) -> Filter:
    """Put a picture whose last channel is its opacity before a smooth random background: (h, w, c + 1) -> (h, w, c).

    Args:
      deviation: Deviation of the background, a start of `fourier`, new for every key (as in Lucid).

    Returns:
      A transform, for pictures in `parameterizations.alpha`.
    """

    def apply(key, image):
        height, width, channels = image.shape
        background = fourier(height, width, channels=channels - 1, deviation=deviation)
        opacity = image[..., -1:]
        return opacity * image[..., :-1] + (1 - opacity) * background.decode(background.start(key[None]))[0]

    return Filter(apply)
