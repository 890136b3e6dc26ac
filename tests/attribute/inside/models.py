"""Small models whose insides are explained: an MLP, and a transformer with a scan over its layers."""

import jax
import jax.numpy as jnp

import diffprog as dp

WIDTH, HEADS, LAYERS, POSITIONS = 4, 2, 3, 3


def numbers(seed, *shape):
    """Draw numbers of a reasonable size, in the precision that is set."""
    return 0.7 * jax.random.normal(jax.random.key(seed), shape, jnp.result_type(float))


def mlp(x):
    """Map (n, 3) to (n, 2) by two layers of tanh."""
    first = dp.tap(jnp.tanh(x @ numbers(0, 3, 5) + numbers(1, 5)), "first")
    second = dp.tap(jnp.tanh(first @ numbers(2, 5, 4) + numbers(3, 4)), "second")
    return second @ numbers(4, 4, 2) + numbers(5, 2)


def transformer(x, is_normalized=False):
    """Map (n, positions, width) to logits (n, 2), read from the last position."""
    layers = {name: numbers(i, LAYERS, WIDTH, WIDTH) for i, name in enumerate("qkvow")}

    def layer(stream, weights):
        split = lambda name: (stream @ weights[name]).reshape(*stream.shape[:-1], HEADS, -1).swapaxes(-2, -3)
        pattern = dp.tap(jax.nn.softmax(split("q") @ split("k").swapaxes(-1, -2)), "attention")
        mixed = (pattern @ split("v")).swapaxes(-2, -3).reshape(stream.shape)
        stream = stream + dp.tap(mixed @ weights["o"], "heads")
        stream = stream + dp.tap(jnp.tanh(stream @ weights["w"]), "mlp")
        return dp.tap(stream, "stream"), None

    stream, _ = jax.lax.scan(layer, dp.tap(1.0 * x, "embedded"), layers)
    if is_normalized:
        stream = stream * jax.lax.rsqrt(jnp.mean(stream**2, axis=-1, keepdims=True))
    return readout(stream[:, -1])


def readout(stream):
    """Map a stream (..., width) to logits (..., 2)."""
    return stream @ numbers(9, WIDTH, 2) + jnp.asarray([0.3, -0.2], stream.dtype)
