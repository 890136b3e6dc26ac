"""Programs that the tests of backward rules share."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

RELUS = {
    "max(x, 0)": lambda x: jnp.maximum(x, 0),
    "where": lambda x: jnp.where(x > 0, x, 0),
    "x (x > 0)": lambda x: x * (x > 0),
    "clamp": lambda x: jnp.clip(x, 0),
    "(x + |x|) / 2": lambda x: (x + abs(x)) / 2,
    "jax.nn.relu": jax.nn.relu,
}


def wave(*shape, phase):
    """Make numbers between -1 and 1 that anyone can make again."""
    return jnp.asarray(np.sin(np.arange(np.prod(shape)) * 1.7 + phase).reshape(shape))


def dense(activation, bias=0.3):
    """Make a network of one hidden layer: (n, 6) -> (n,)."""
    inner, outer = wave(6, 8, phase=0.4), wave(8, phase=0.9)
    return lambda x: activation(x @ inner + jnp.asarray(bias, x.dtype)) @ outer


def convolutional(activation, pool="mean", bias=True):
    """Make the network that was run in Captum and zennit: (n, 4, 4, 2) -> (n, 3)."""
    kernel, shift = wave(3, 3, 2, 3, phase=0.1), wave(3, phase=0.5) * 0.3 * bias
    first, first_bias = wave(12, 5, phase=0.7), wave(5, phase=1.0) * 0.3 * bias
    last, last_bias = wave(5, 3, phase=1.3), wave(3, phase=0.2) * 0.3 * bias

    def network(x):
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        blocks = activation(x + jnp.broadcast_to(shift, x.shape)).reshape(-1, 2, 2, 2, 2, 3)
        x = (blocks.mean((2, 4)) if pool == "mean" else blocks.max((2, 4))).reshape(len(x), -1)
        hidden = activation(x @ first + jnp.broadcast_to(first_bias, (len(x), 5)))
        return hidden @ last + jnp.broadcast_to(last_bias, (len(x), 3))

    return network


def attention(x):
    """Attend with scores of rows, normalize, and apply a GELU: (n, 6) -> (n,)."""
    weights = wave(8, 5, phase=0.2)
    h = x[..., None] * wave(8, phase=0.6)
    query, key, value = h @ weights, h @ weights[::-1], 2 * (h @ weights)
    scores = jax.nn.softmax(jnp.einsum("bid,bjd->bij", query, key), axis=-1)
    out = jnp.einsum("bij,bjd->bid", scores, value)
    centered = out - out.mean(-1, keepdims=True)
    out = centered * lax.rsqrt((centered**2).mean(-1, keepdims=True) + 1e-3)
    return jax.nn.gelu(out).sum((1, 2))
