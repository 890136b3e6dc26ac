"""Recordings of real programs, small ones."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import diffprog as dp


@cache
def mlp():
    """Two layers in named scopes, with a picture as input: 6 x 8 pixels would be too small to be one."""

    def loss(parameters, image, target):
        x = image.reshape(-1)
        for name, (w, b) in parameters.items():
            with jax.named_scope(name):
                x = jnp.tanh(w @ x + b)
        with jax.named_scope("loss"):
            return jnp.sum((x - target) ** 2) / 2

    rng = np.random.default_rng(0)
    sizes = {"hidden": (4, 192), "output": (2, 4)}
    parameters = {
        name: (np.float32(rng.normal(size=(n, m)) / m**0.5), np.zeros(n, np.float32)) for name, (n, m) in sizes.items()
    }
    image = np.linspace(0, 1, 192, dtype=np.float32).reshape(8, 8, 3)
    return dp.record(loss)(parameters, image, np.float32([0.5, -0.5])).backward()


@cache
def broken():
    """A distance whose square root is taken at zero behind a `where`, an argmax, and a product with zero."""

    def distance(x):
        d = jnp.sqrt(jnp.sum(x**2, axis=1))
        safe = jnp.where(d > 0, d, 0.0)
        nearest = jnp.argmax(safe)
        return jnp.sum(safe) + 0.0 * jnp.sum(x[nearest])

    return dp.record(distance)(np.float32([[0, 0], [3, 4]])).backward()


@cache
def loop():
    def rnn(w, u, xs):
        def step(h, x):
            h = jnp.tanh(w @ h + u @ x)
            return h, h

        with jax.named_scope("rnn"):
            _, hs = lax.scan(step, jnp.zeros(3, xs.dtype), xs)
        return jnp.sum(hs**2)

    rng = np.random.default_rng(1)
    return dp.record(rnn)(*(np.float32(rng.normal(size=s)) for s in ((3, 3), (3, 2), (5, 2)))).backward()
