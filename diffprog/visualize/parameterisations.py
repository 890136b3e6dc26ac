"""How a picture is parameterised: gradient ascent moves the parameters, and `decode` turns them into an image.

The optimum is the same in any parameterisation, the path is not. In pixels, ascent finds high frequencies first;
in decorrelated colours and frequencies of equal standing, it finds pictures (Olah et al. 2017, "Feature
Visualization", section "Preconditioning and parameterization").
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

# A square root of the covariance of colours in ImageNet, rows R, G, B (Lucid), scaled so that its longest column is 1.
COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)
COLOURS /= np.linalg.norm(COLOURS, axis=0).max()


@dataclass(frozen=True, eq=False)
class Parameterisation:
    """How n pictures are written.

    start: `start(keys)`, of n keys, gives the parameters of n pictures, whose axis comes first in every leaf that
        belongs to one picture.
    decode: the parameters to images (n, height, width, channels) in [0, 1].
    encode: images to parameters that decode to them, or to the nearest images that can be written so; None where a
        picture cannot be given.
    """

    height: int
    width: int
    channels: int
    start: Callable
    decode: Callable
    encode: Callable | None = None


def each(height, width, channels, start, decode, encode=None):
    """A parameterisation from functions of one picture."""
    return Parameterisation(height, width, channels, jax.vmap(start), jax.vmap(decode), encode and jax.vmap(encode))


@lru_cache  # equal arguments give the same object, for which programs are compiled once
def fourier(height, width=None, *, decay=1.0, cutoff=None, deviation=0.01, decorrelate=True):
    """Frequencies of equal standing in decorrelated colours, then a sigmoid (Olah et al. 2017; constants of Lucid).

    decay: the amplitude of frequency f is scaled by 1 / f ** decay; 1 is the spectrum of natural photographs.
    cutoff: the frequency, in cycles per pixel (0.5 is the finest), around which a soft low-pass exp(-(f / cutoff)^2)
        sets in; None for none.
    deviation: of the random start.
    """
    width = width or height
    scale = jnp.asarray(_amplitudes(height, width, decay, cutoff))

    def start(key):
        return deviation * jax.random.normal(key, (2, 3, *scale.shape))

    def decode(parameters):
        real, imaginary = parameters * scale
        image = jnp.fft.irfft2(jax.lax.complex(real, imaginary), s=(height, width), norm="ortho")
        image = jnp.moveaxis(image, 0, -1) / 4  # Lucid's constant: it sets what Adam's step size means
        return jax.nn.sigmoid(image @ COLOURS.T if decorrelate else image)

    return each(height, width, 3, start, decode)


def _amplitudes(height, width, decay, cutoff):
    """(height, width // 2 + 1) for `irfft2`; the constant term is treated as the lowest frequency."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    lowpass = 1 if cutoff is None else np.exp(-((frequency / cutoff) ** 2))
    amplitudes = lowpass / np.maximum(frequency, 1 / max(height, width)) ** decay
    return amplitudes.astype(np.float32)


@lru_cache
def pixels(height, width=None, *, deviation=0.01):
    """Plain pixels behind a sigmoid: the baseline, which mostly finds noise."""
    width = width or height
    start = lambda key: deviation * jax.random.normal(key, (height, width, 3))
    return each(height, width, 3, start, jax.nn.sigmoid)
