"""A network small enough to be worked out by hand, with a dead unit."""

import jax.numpy as jnp
import numpy as np

from diffprog.models import Model

BIAS = np.array([0.0, 0.1, -5.0, 0.0], np.float32)  # the third unit is zero for every ordinary image


def network(parameters, images):
    x = images - 0.5
    yield "units.pre", (x := x @ parameters["kernel"] + parameters["bias"][None, None, None])
    yield "units", (x := jnp.clip(x, 0, 6))
    yield "logits", x.mean((1, 2)) @ parameters["last"]


def model():
    random = np.random.default_rng(0)
    parameters = {
        "kernel": 5 * random.normal(size=(3, 4)).astype(np.float32),
        "bias": BIAS,
        "last": random.normal(size=(4, 3)).astype(np.float32),
    }
    return Model("small", network, parameters, ("zero", "one, unity", "two"), size=12, min_size=8)
