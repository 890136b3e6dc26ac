"""Changes of the picture that are no motion: resampling, blur, noise, colors, backgrounds.

Nothing here keeps a picture in [0, 1] by clipping, which would stop the gradient.
"""

from collections.abc import Callable
from functools import lru_cache
from math import ceil
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffprog.images._filters import gaussian_blur, resize_linear
from diffprog.visualize.parameterizations._colors import logits
from diffprog.visualize.parameterizations._fourier import fourier


class Filter(NamedTuple):
    """apply: `apply(key, image)`, drawn anew for every key.
    size: `size(height, width)` of the results, for images of such a size."""

    apply: Callable
    size: Callable = lambda height, width: (height, width)

    def __call__(self, key, image):
        """One random result, differentiable."""
        return self.apply(key, image)


@lru_cache  # equal arguments give the same object, for which programs are compiled once
def crop(size, low=0.05, high=0.5, spread=0.15):
    """A random square of the picture, seen at `size` x `size` pixels (as MACO does, Fel et al. 2023).

    Its side is a share of the picture's shorter side, normal with deviation 0.05 about a mean that is itself uniform in
    [low, high], at least 0.05 and at most 1. Its center is normal about the picture's, with deviation `spread` times
    height and width; a square that would reach over the edge is moved inside.
    """

    def apply(key, image):
        mean, side, center = jax.random.split(key, 3)
        side = jax.random.uniform(mean, minval=low, maxval=high) + 0.05 * jax.random.normal(side)
        extent = jnp.asarray(image.shape[:2], jnp.float32)
        side = jnp.clip(side, 0.05, 1) * extent.min()
        corner = extent * (0.5 + spread * jax.random.normal(center, (2,))) - side / 2
        return window(image, jnp.clip(corner, 0, extent - side), side, size)

    return Filter(apply, lambda height, width: (size, size))


def window(image, corner, side, size):
    """The square of an image (h, w, c) with such a top left corner and side, in pixels, at size x size: bilinear, and
    averaged where it is made smaller."""
    scale = jnp.broadcast_to(size / side, 2)
    shape = (size, size, image.shape[-1])
    return jax.image.scale_and_translate(image, shape, (0, 1), scale, -corner * scale, "linear", precision="highest")


@lru_cache
def resize(height, width=None):
    """The picture at another size: bilinear, and averaged where it is made smaller."""
    width = width or height

    def apply(_, image):
        return resize_linear(image, (height, width, image.shape[-1]))

    return Filter(apply, lambda *_: (height, width))


@lru_cache
def blur(low, high):
    """Gaussian blur, of a deviation drawn uniformly from [low, high] pixels; at the edge the last pixels go on."""
    radius = ceil(3 * high)

    def apply(key, image):
        return gaussian_blur(image, jax.random.uniform(key, minval=low, maxval=high), radius)

    return Filter(apply)


@lru_cache
def noise(deviation=0.0, span=0.0):
    """Normal noise of such a deviation, plus noise that is uniform in [-span, span], for every value alone."""

    def apply(key, image):
        normal, uniform = jax.random.split(key)
        shift = jax.random.uniform(uniform, image.shape, minval=-span, maxval=span)
        return image + deviation * jax.random.normal(normal, image.shape) + shift

    return Filter(apply)


@lru_cache
def color_shift(shift=1.0, spread=1.0):
    """Another brightness and contrast for each channel: x -> (x - m) / exp(s), with m uniform in [-shift, shift] and s
    in [-spread, spread] (Ghiasi et al. 2022, "What do vision transformers learn?", there of normalized colors; here of
    logits, so that the result is in (0, 1)). Values nearer than 0.001 to 0 or 1 count as that."""

    def apply(key, image):
        m, s = jax.random.uniform(key, (2, image.shape[-1]), minval=-1, maxval=1)
        return jax.nn.sigmoid((logits(image, 1e-3) - shift * m) / jnp.exp(spread * s))

    return Filter(apply)


@lru_cache
def blend(deviation=0.5):
    """A picture whose last channel is its opacity, before a smooth random background: (h, w, c + 1) -> (h, w, c).

    The background is a start of `fourier` of that deviation, a new one for every key (as in Lucid).
    """

    def apply(key, image):
        height, width, channels = image.shape
        behind = fourier(height, width, channels=channels - 1, deviation=deviation)
        opacity = image[..., -1:]
        return opacity * image[..., :-1] + (1 - opacity) * behind.decode(behind.start(key[None]))[0]

    return Filter(apply)
