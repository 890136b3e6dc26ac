"""Networks whose gradients `diffprog compare` compares: each makes a function and its arguments."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from diffprog import models
from diffprog._util.promotion import own_promotion


def _normal(rng, *shape):
    return jnp.asarray(rng.standard_normal(shape) / np.sqrt(max(shape[0], 1)), jnp.float32)


def chain(rng):
    """Make the lecture's chain of scalar functions."""

    def fun(x):
        for _ in range(10):
            x = jnp.sin(x) * 1.5 + 0.1 * x
        return x

    return fun, (jnp.float32(0.7),)


def mlp(rng):
    """Make the lecture's multi-layer perceptron, with ReLU and squared error."""
    sizes = (64, 128, 128, 10)
    parameters = [(_normal(rng, a, b), jnp.zeros(b, jnp.float32)) for a, b in itertools.pairwise(sizes)]

    @own_promotion()
    def fun(parameters, x, y):
        *hidden, (w, b) = parameters
        for weight, bias in hidden:
            x = jax.nn.relu(x @ weight + bias)
        return jnp.mean((x @ w + b - y) ** 2) / 2

    return fun, (parameters, _normal(rng, 32, 64), _normal(rng, 32, 10))


def dag(rng):
    """Make a graph with fan-out: one value is used by many, whose gradients add up."""

    def fun(x, w):
        shared = jnp.tanh(w @ x)
        branches = [jnp.sin(shared * k) + shared**2 / k for k in range(1, 9)]
        return sum(jnp.sum(branch * shared) for branch in branches)

    return fun, (_normal(rng, 32), _normal(rng, 32, 32))


def convolutional_network(rng):
    """Make two convolutions with pooling and a linear layer, with cross-entropy."""
    parameters = {
        "first": _normal(rng, 3, 3, 1, 16),
        "second": _normal(rng, 3, 3, 16, 32) / 3,
        "last": _normal(rng, 7 * 7 * 32, 10),
    }

    def layer(x, kernel):
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def fun(parameters, images, labels):
        x = layer(layer(images, parameters["first"]), parameters["second"])
        logits = x.reshape(len(x), -1) @ parameters["last"]
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(x)), labels])

    return fun, (parameters, _normal(rng, 8, 28, 28, 1), jnp.arange(8) % 10)


def efficientnet_lite0(rng):
    """Make a logit of the pretrained network, written with plain convolutions, as a function of an image."""
    model = models.load("efficientnet_lite0", convolution="native")

    def fun(images):
        return model.apply(model.parameters, images)[0, 282]

    return fun, (jnp.asarray(rng.random((1, 128, 128, 3)), jnp.float32),)


def lstm(rng):
    """Make an LSTM over 30 steps by `lax.scan`."""
    size = 64
    parameters = {
        "in": _normal(rng, size, 4 * size),
        "hidden": _normal(rng, size, 4 * size),
        "bias": jnp.zeros(4 * size, jnp.float32),
    }

    @own_promotion()
    def fun(parameters, sequence):
        def step(carry, x):
            hidden, cell = carry
            gates = x @ parameters["in"] + hidden @ parameters["hidden"] + parameters["bias"]
            i, f, o, g = jnp.split(gates, 4, axis=-1)
            cell = jax.nn.sigmoid(f + 1) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
            return (hidden, cell), hidden

        start = (jnp.zeros((8, size), jnp.float32),) * 2
        _, outputs = lax.scan(step, start, sequence)
        return jnp.mean(outputs**2)

    return fun, (parameters, _normal(rng, 30, 8, size))


def transformer_block(rng):
    """Make causal self-attention and a GELU layer, each with layer norm and skip."""
    width, heads, length = 64, 4, 32
    parameters = {
        "qkv": _normal(rng, width, 3 * width),
        "out": _normal(rng, width, width),
        "up": _normal(rng, width, 4 * width),
        "down": _normal(rng, 4 * width, width),
    }

    def norm(x):
        return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)

    def fun(parameters, x):
        q, k, v = jnp.split((norm(x) @ parameters["qkv"]).reshape(4, length, 3 * heads, -1), 3, axis=2)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(width / heads)
        mask = jnp.tril(jnp.ones((length, length), bool))
        attention = jax.nn.softmax(jnp.where(mask, scores, -1e9))
        x = x + jnp.einsum("bhqk,bkhd->bqhd", attention, v).reshape(x.shape) @ parameters["out"]
        x = x + jax.nn.gelu(norm(x) @ parameters["up"]) @ parameters["down"]
        return jnp.mean(x**2)

    return fun, (parameters, _normal(rng, 4, length, width))


def equilibrium(rng):
    """Make a deep equilibrium layer (Bai et al. 2019), iterated until it settles, which JAX does not reverse."""
    size = 32
    parameters = {"inner": 0.5 * _normal(rng, size, size), "outer": _normal(rng, size, size)}

    def fun(parameters, x):
        def layer(z):
            return jnp.tanh(z @ parameters["inner"] + x @ parameters["outer"])

        def changing(state):
            old, new = state
            return jnp.max(jnp.abs(new - old)) > 1e-6

        start = jnp.zeros_like(x)
        _, z = lax.while_loop(changing, lambda state: (state[1], layer(state[1])), (start, layer(start)))
        return jnp.mean(z**2)

    return fun, (parameters, _normal(rng, 8, size))


NETWORKS = {
    "chain": chain,
    "mlp": mlp,
    "dag": dag,
    "convolutional_network": convolutional_network,
    "efficientnet_lite0": efficientnet_lite0,
    "lstm": lstm,
    "transformer_block": transformer_block,
    "equilibrium": equilibrium,
}
