"""Pictures as sums of waves."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog.visualize.parameterizations._base import Parameterization, from_single, normal
from diffprog.visualize.parameterizations._colors import from_image, matrix_of, to_image


@factory
def fourier(
    height: int,
    width: int | None = None,
    *,
    channels: int = 3,
    colors: bool | ArrayLike = True,
    decay: float = 1.0,
    cutoff: float | None = None,
    deviation: float = 0.01,
) -> Parameterization:
    """Write pictures in frequencies of equal standing and decorrelated colors, before a sigmoid.

    Args:
      height: Height of the pictures in pixels.
      width: Width of the pictures in pixels; the height by default.
      channels: Number of channels.
      colors: True for the colors of photographs (`COLORS`) where there are three channels, False for independent
        channels, or a matrix of your own (`colors_of`).
      decay: The amplitude of frequency f is scaled by 1 / f ** decay; 1 is the spectrum of natural photographs.
      cutoff: Frequency in cycles per pixel (0.5 is the finest) around which a soft low-pass exp(-(f / cutoff)^2) sets
        in; none by default.
      deviation: Standard deviation of the random start.

    Returns:
      A `Parameterization`.

    References:
      Olah et al. 2017, "Feature Visualization"; the constants are Lucid's.
    """
    width, matrix = width or height, matrix_of(colors, channels)
    scale = amplitudes(height, width, decay, cutoff) / 4  # Lucid's constant: it sets what a learning rate means
    reachable = scale > 1e-6 * scale.max()  # a low-pass may remove a frequency altogether

    def start(key):
        return deviation * normal(key, (2, channels, *scale.shape))

    def decode(parameters):
        return to_image(planes_of(jax.lax.complex(*(parameters * scale[None, None])), height, width), matrix)

    def encode(image):
        waves = jnp.fft.rfft2(from_image(image, matrix), norm="ortho")
        unscaled = np.where(reachable, 1 / np.where(reachable, scale, 1), 0)
        return jnp.stack([waves.real, waves.imag]) * unscaled[None, None]

    return from_single(height, width, channels, start, decode, encode)


def frequencies(height: int, width: int) -> np.ndarray:
    """List the cycles per pixel of each coefficient of `rfft2`: (height, width // 2 + 1)."""
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])


def at_least_lowest(frequency: np.ndarray, height: int, width: int) -> np.ndarray:
    """Raise the constant term's frequency to the lowest one of a wave."""
    return np.maximum(frequency, 1 / max(height, width))


def amplitudes(height: int, width: int, decay: float, cutoff: float | None) -> np.ndarray:
    """Compute the amplitude of each coefficient of `irfft2`, (height, width // 2 + 1)."""
    frequency = frequencies(height, width)
    lowpass = 1 if cutoff is None else np.exp(-((frequency / cutoff) ** 2))
    return (lowpass / at_least_lowest(frequency, height, width) ** decay).astype(np.float32)


def planes_of(waves: jax.Array, height: int, width: int) -> jax.Array:
    """Turn coefficients of `rfft2` (c, height, width // 2 + 1) into real numbers (c, height, width)."""
    return jnp.fft.irfft2(waves, s=(height, width), norm="ortho")
