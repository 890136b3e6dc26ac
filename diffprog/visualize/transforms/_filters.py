"""Filters: resampling, blur, noise, colors, backgrounds; transforms that are no motion.

Nothing here keeps a picture in [0, 1] by clipping, which would stop the gradient.
"""

from collections.abc import Callable
from math import ceil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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
def crop(size: int | tuple[int, int], low: float = 0.05, high: float = 0.5, spread: float = 0.15) -> Filter:
    """Show a random part of the picture at a fixed size, as MACO does: a square, or of the size's proportions.

    Its sides are a share of those of the largest such part, normal with deviation 0.05 about a mean that is itself
    uniform in [low, high], and clipped to [0.05, 1]. One that would reach over the edge is moved inside.

    Args:
      size: Side of the results in pixels, or their (height, width).
      low: The smallest mean share.
      high: The largest mean share.
      spread: Deviation of the part's center about the picture's, as a share of height and width.

    Returns:
      A transform.

    References:
      Fel et al. 2023, "Unlocking feature visualization for deeper networks".
    """
    height, width = size if isinstance(size, tuple) else (size, size)

    def apply(key, image):
        mean, share, center = jax.random.split(key, 3)
        share = jax.random.uniform(mean, (), jnp.float32, low, high) + 0.05 * jax.random.normal(share, (), jnp.float32)
        extent = jnp.asarray(image.shape[:2], jnp.float32)
        largest = min(image.shape[0] / height, image.shape[1] / width) * np.array([height, width], np.float32)
        sides = jnp.clip(share, 0.05, 1) * largest
        corner = extent * (0.5 + spread * jax.random.normal(center, (2,), jnp.float32)) - sides / 2
        return window(image, jnp.clip(corner, 0, extent - sides), sides, (height, width))

    return Filter(apply, lambda *_: (height, width))


def window(image: jax.Array, corner: jax.Array, sides: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Show a part of an image at a size: bilinear, and averaged where it is made smaller.

    Args:
      image: Array (h, w, c).
      corner: The part's top left corner in pixels.
      sides: Its height and width in pixels.
      size: Height and width of the result in pixels.
    """
    scale = np.array(size, np.float32) / sides
    shape = (*size, image.shape[-1])
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
        return gaussian_blur(image, jax.random.uniform(key, (), jnp.float32, low, high), radius)

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
        shift = jax.random.uniform(uniform, image.shape, jnp.float32, -span, span)
        return image + deviation * jax.random.normal(normal, image.shape, jnp.float32) + shift

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
        m, s = jax.random.uniform(key, (2, image.shape[-1]), jnp.float32, -1, 1)
        return jax.nn.sigmoid((logits(image, 1e-3) - shift * m[None, None]) / jnp.exp(spread * s)[None, None])

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
