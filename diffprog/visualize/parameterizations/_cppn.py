"""Pictures as functions from a position to a color."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog.visualize.parameterizations._base import Parameterization, from_single
from diffprog.visualize.parameterizations._colors import matrix_of, to_image

# arctan of a normal deviate, and its square, have these root mean squares
ARCTAN, SQUARE = 0.67, 0.6


@factory
def cppn(
    height: int,
    width: int | None = None,
    *,
    channels: int = 3,
    colors: bool | ArrayLike = False,
    layers: int = 8,
    units: int = 24,
) -> Parameterization:
    """Write pictures as compositional pattern-producing networks, which compute a color from a position.

    Such a picture has no pixels: smooth areas and crisp curves. Weights are scaled so that every layer's values start
    with about unit variance. The last weights start at zero, so that every picture starts in a single color. A learning
    rate of 5e-3 suits it, a tenth of what suits `fourier`. A photograph cannot be encoded.

    Args:
      height: Height of the pictures in pixels.
      width: Width of the pictures in pixels; the height by default.
      channels: Number of channels.
      colors: True for the colors of photographs (`COLORS`) where there are three channels, False for independent
        channels, or a matrix of your own (`colors_of`).
      layers: Number of hidden layers.
      units: Channels of a hidden layer, whose arctan and its square both go on.

    Returns:
      A `Parameterization`.

    References:
      Stanley 2007; Mordvintsev et al. 2018, "Differentiable image parameterizations"; the constants are Lucid's.
    """
    width, matrix = width or height, matrix_of(colors, channels)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    half = max(height, width, 2) / 2 - 0.5
    centered = np.stack([rows - rows.mean(), columns - columns.mean()], axis=-1) / half
    positions = np.sqrt(3).astype(np.float32) * centered  # of unit variance, along the longer side
    inputs = [2] + [2 * units] * (layers - 1)

    def start(key):
        keys = jax.random.split(key, layers + 1)
        return {
            "hidden": [_dense(k, size, units) for k, size in zip(keys, inputs, strict=False)],
            "last": {**_dense(keys[-1], 0, channels), "weights": jnp.zeros((2 * units, channels), jnp.float32)},
        }

    def decode(parameters):
        values = positions
        for layer in parameters["hidden"]:
            values = jnp.arctan(values @ layer["weights"] + layer["bias"][None, None])
            values = jnp.concatenate([values / ARCTAN, values**2 / SQUARE], axis=-1)
        last = parameters["last"]
        return to_image(jnp.moveaxis(values @ last["weights"] + last["bias"][None, None], -1, 0), matrix)

    return from_single(height, width, channels, start, decode)


def _dense(key, inputs, outputs):
    weights, bias = jax.random.split(key)
    return {
        "weights": jax.random.normal(weights, (inputs, outputs), jnp.float32) / math.sqrt(max(inputs, 1)),
        "bias": 0.1 * jax.random.normal(bias, (outputs,), jnp.float32),
    }
