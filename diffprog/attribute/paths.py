"""Paths from a baseline to an input, for `path=` of `integrated_gradients` and `path_film`.

A path is any function (baseline, input, part) -> point of one example, each a list of arrays, `part` from 0 to 1: at 1
it is the input. Its velocity is differentiated by `jax.jvp`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.factory import factory
from diffprog._util.numbers import check_positive

__all__ = ["Path", "blur", "straight"]

Path = Callable[[list[jax.Array], list[jax.Array], jax.Array], list[jax.Array]]


def straight(baseline: list[jax.Array], point: list[jax.Array], part: jax.Array) -> list[jax.Array]:
    """Go from the baseline to the input in a straight line.

    Args:
      baseline: where it begins, a list of arrays.
      point: where it ends.
      part: of the way, from 0 to 1.

    Returns:
      A list of arrays.
    """
    return [b + part.astype(b.dtype) * (x - b) for b, x in zip(baseline, point, strict=True)]


@factory
def blur(deviation: float = 50.0) -> Path:
    """Go from a blurred input to the input, by ever narrower Gaussians: no baseline brings colors of its own.

    The blur is written in cosines, exp(-deviation^2 w^2 / 2) for the frequency w, which mirrors the picture at its
    edges and keeps its mean.

    Args:
      deviation: standard deviation of the first Gaussian, in pixels; it falls to 0 evenly.

    Returns:
      A path. It blurs all axes of an example's arrays but the last, which is that of channels.

    References:
      Xu et al., "Attribution in scale and space", 2020.
    """
    deviation = float(check_positive(deviation, "deviation"))

    def path(baseline, point, part):
        return [_blurred(x, deviation * (1 - part)) for x in point]

    path.needs_no_baseline = True  # type: ignore[attr-defined]
    return path


def _blurred(x, deviation):
    """Take off what a Gaussian takes off: nothing at all, to the last bit, where its deviation is 0."""
    axes = range(x.ndim - 1)
    waves, exponents = x, jnp.zeros((), deviation.dtype)
    for axis in axes:
        length = x.shape[axis]
        waves = _along(waves, _cosines(length), axis)
        frequency = jnp.asarray((np.pi * np.arange(length) / length) ** 2 / 2, deviation.dtype)
        exponents = jnp.expand_dims(exponents, -1) + frequency.reshape((1,) * axis + (length,))
    lost = waves * (-jnp.expm1(-exponents * deviation**2))[..., None].astype(x.dtype)
    for axis in axes:
        lost = _along(lost, _cosines(x.shape[axis]).T, axis)
    return x - lost


def _along(x, matrix, axis):
    found = jnp.tensordot(jnp.asarray(matrix, x.dtype), x, ((1,), (axis,)), precision="highest")
    return jnp.moveaxis(found, 0, axis)


def _cosines(length):
    """Make the orthonormal cosine transform of type II, (frequencies, positions)."""
    angles = np.pi * np.arange(length)[:, None] * (np.arange(length) + 0.5) / length
    rows = np.sqrt(2 / length) * np.cos(angles)
    rows[0] /= np.sqrt(2)
    return rows
