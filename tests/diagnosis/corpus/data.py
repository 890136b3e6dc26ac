"""Numbers for the programs: the same ones every time."""

import jax.numpy as jnp
import numpy as np

from diffprog.cli._broken_programs import normal

__all__ = ["dense", "normal", "uniform"]


def uniform(*shape, seed=0, low=0.0, high=1.0):
    """Numbers between `low` and `high`, in float32."""
    return jnp.asarray(np.random.default_rng(seed).uniform(low, high, shape), jnp.float32)


def dense(inputs, outputs, seed=0):
    """The parameters of an affine layer: {"w": (inputs, outputs), "b": (outputs,)}."""
    return {"w": normal(inputs, outputs, seed=seed, scale=inputs**-0.5), "b": normal(outputs, seed=seed + 1, scale=0.1)}
