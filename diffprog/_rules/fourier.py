"""Fourier transforms: linear maps, each transposed by another transform.

With JAX's convention for complex cotangents (no conjugation) the matrix of a transform is transposed as it stands, and
the matrices of FFT and IFFT are symmetric.
"""

import math

import numpy as np
from jax import lax
from jax.lax import FftType, mul

from diffprog._tracer.rules import constant, linear


def _transpose(g, x, fft_type, fft_lengths):
    if fft_type == FftType.RFFT:
        return _real_to_half(g, fft_lengths)
    if fft_type == FftType.IRFFT:
        return _half_to_real(g, fft_lengths)
    return lax.fft(g, fft_type, fft_lengths)


def _real_to_half(g, lengths):
    """Transpose RFFT, which is FFT, of which the first half of the last axis is kept."""
    missing = lengths[-1] - g.shape[-1]
    whole = lax.pad(g, constant(g, 0), [(0, 0, 0)] * (g.ndim - 1) + [(0, missing, 0)])
    return lax.real(lax.fft(whole, FftType.FFT, lengths))


def _half_to_real(g, lengths):
    """Transpose IRFFT.

    It counts each frequency of the last axis twice, for itself and its mirror image, but the first, and the middle one
    of an even length, which are their own.
    """
    half = lax.fft(g, FftType.RFFT, lengths)
    multiplicity = np.full(half.shape[-1], 2)
    multiplicity[0] = 1
    if lengths[-1] % 2 == 0:
        multiplicity[-1] = 1
    weights = lax.broadcast_in_dim(constant(half, multiplicity / math.prod(lengths)), half.shape, [half.ndim - 1])
    return lax.conj(mul(half, weights))


linear("fft", _transpose)
