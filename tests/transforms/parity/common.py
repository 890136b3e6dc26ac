"""What the tables of cases share."""

import jax
import jax.numpy as jnp
import numpy as np

X = np.asarray([0.3, -1.2, 2.0], np.float32)
W = np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)
Z = np.asarray([1 + 2j, -0.5 + 1j], np.complex64)
FLOAT0 = jax.dtypes.float0


def loss(x, w=W):
    return jnp.sum(jnp.tanh(jnp.dot(w, x)) ** 2)
