"""Pictures as sums of waves."""

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.factory import factory
from diffprog.visualize.parameterizations._base import each, normal
from diffprog.visualize.parameterizations._colors import from_image, matrix_of, to_image


@factory
def fourier(height, width=None, *, channels=3, colors=True, decay=1.0, cutoff=None, deviation=0.01):
    """Frequencies of equal standing in decorrelated colors, then a sigmoid (Olah et al. 2017; constants of Lucid).

    channels: any number. colors: True for the colors of photographs (`COLORS`) where there are three channels, False
        for channels that are independent, or a matrix of your own (`colors_of`).
    decay: the amplitude of frequency f is scaled by 1 / f ** decay; 1 is the spectrum of natural photographs.
    cutoff: the frequency, in cycles per pixel (0.5 is the finest), around which a soft low-pass exp(-(f / cutoff)^2)
        sets in; None for none.
    deviation: of the random start.
    """
    width, matrix = width or height, matrix_of(colors, channels)
    scale = amplitudes(height, width, decay, cutoff) / 4  # Lucid's constant: it sets what Adam's step size means
    reachable = scale > 1e-6 * scale.max()  # a low-pass may remove a frequency altogether

    def start(key):
        return deviation * normal(key, (2, channels, *scale.shape))

    def decode(parameters):
        return to_image(planes_of(jax.lax.complex(*(parameters * scale)), height, width), matrix)

    def encode(image):
        waves = jnp.fft.rfft2(from_image(image, matrix), norm="ortho")
        waves = waves * np.where(reachable, 1 / np.where(reachable, scale, 1), 0)
        return jnp.stack([waves.real, waves.imag])

    return each(height, width, channels, start, decode, encode)


def frequencies(height, width):
    """Cycles per pixel of each coefficient of `rfft2`: (height, width // 2 + 1)."""
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])


def at_least_lowest(frequency, height, width):
    """The same, but the constant term counts as the lowest frequency."""
    return np.maximum(frequency, 1 / max(height, width))


def amplitudes(height, width, decay, cutoff):
    """(height, width // 2 + 1), for `irfft2`."""
    frequency = frequencies(height, width)
    lowpass = 1 if cutoff is None else np.exp(-((frequency / cutoff) ** 2))
    return (lowpass / at_least_lowest(frequency, height, width) ** decay).astype(np.float32)


def planes_of(waves, height, width):
    """Coefficients of `rfft2` (c, height, width // 2 + 1) to real numbers (c, height, width)."""
    return jnp.fft.irfft2(waves, s=(height, width), norm="ortho")
