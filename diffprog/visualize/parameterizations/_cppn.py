"""Pictures as functions from a position to a color."""

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.factory import factory
from diffprog.visualize.parameterizations._base import each
from diffprog.visualize.parameterizations._colors import matrix_of, to_image

# arctan of a normal deviate, and its square, have these root mean squares
ARCTAN, SQUARE = 0.67, 0.6


@factory
def cppn(height, width=None, *, channels=3, colors=False, layers=8, units=24):
    """A compositional pattern-producing network (Stanley 2007; Mordvintsev et al. 2018; constants of Lucid): a small
    network that computes the color at a position from the position.

    What it draws has no pixels: smooth areas and crisp curves. Weights are scaled so that every layer's values start
    with about unit variance; the last ones start at zero, so that every picture starts in a single color. Adam with a
    rate of 5e-3 suits it, a tenth of what suits `fourier`.

    layers, units: hidden layers, and channels in each, whose arctan and its square both go on. colors: as for
    `fourier`, but off by default. A photograph cannot be encoded.
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
            "hidden": [_dense(k, count, units) for k, count in zip(keys, inputs, strict=False)],
            "last": {**_dense(keys[-1], 0, channels), "weights": jnp.zeros((2 * units, channels))},
        }

    def decode(parameters):
        values = positions
        for layer in parameters["hidden"]:
            values = jnp.arctan(values @ layer["weights"] + layer["bias"])
            values = jnp.concatenate([values / ARCTAN, values**2 / SQUARE], axis=-1)
        last = parameters["last"]
        return to_image(jnp.moveaxis(values @ last["weights"] + last["bias"], -1, 0), matrix)

    return each(height, width, channels, start, decode)


def _dense(key, inputs, outputs):
    weights, bias = jax.random.split(key)
    return {
        "weights": jax.random.normal(weights, (inputs, outputs)) / np.sqrt(max(inputs, 1)),
        "bias": 0.1 * jax.random.normal(bias, (outputs,)),
    }
