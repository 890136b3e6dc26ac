"""The programs whose gradients `benchmarks.gradients` times.

Each takes a random generator and a factor of work (1 or 10) and returns (function, arguments); the gradient is taken
with respect to the first argument.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from diffprog.cli import _networks as networks


def _normal(rng, *shape):
    return jnp.asarray(rng.standard_normal(shape) / np.sqrt(max(shape[0], 1)), jnp.float32)


def mlp(rng, work=1):
    """Three layers, ReLU, squared error; work is the batch."""
    fun, (parameters, x, y) = networks.mlp(rng)
    return fun, (parameters, jnp.tile(x, (4 * work, 1)), jnp.tile(y, (4 * work, 1)))


def residual_network(rng, work=1):
    """A stem and four residual blocks with group normalization; work is the batch."""
    width = 32
    parameters = {
        "stem": _normal(rng, 3, 3, 3, width),
        "blocks": [[_normal(rng, 3, 3, width, width) / 6 for _ in range(2)] for _ in range(4)],
        "last": _normal(rng, width, 10),
    }

    def conv(x, kernel, stride=1):
        return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def normalize(x):
        groups = x.reshape(*x.shape[:3], 4, -1)
        mean, variance = groups.mean((1, 2, 4), keepdims=True), groups.var((1, 2, 4), keepdims=True)
        return ((groups - mean) * lax.rsqrt(variance + 1e-5)).reshape(x.shape)

    def fun(parameters, images):
        x = jax.nn.relu(conv(images, parameters["stem"], 2))
        for first, second in parameters["blocks"]:
            x = jax.nn.relu(x + normalize(conv(jax.nn.relu(normalize(conv(x, first))), second)))
        return jnp.mean(jax.nn.logsumexp(x.mean((1, 2)) @ parameters["last"], axis=1))

    return fun, (parameters, _normal(rng, 4 * work, 32, 32, 3))


def efficientnet_lite0(rng, work=1):
    """A logit of the pretrained network, written with plain convolutions, with respect to an image of 128 px."""
    return networks.efficientnet_lite0(rng)


def transformer_block(rng, work=1):
    """Causal self-attention and a GELU layer."""
    return networks.transformer_block(rng)


def lstm(rng, work=1):
    """100 steps by `lax.scan`; work is the number of steps."""
    fun, (parameters, sequence) = networks.lstm(rng)
    return fun, (parameters, _normal(rng, 100 * work, *sequence.shape[1:]))


def embedding(rng, work=1):
    """Rows of a table, picked by index."""
    index = jnp.asarray(rng.integers(0, 10_000, (64, 32)))

    def fun(table, index):
        return jnp.sum(jnp.tanh(table[index].mean(1)) ** 2)

    return fun, (_normal(rng, 10_000, 64), index)


def pooling_network(rng, work=1):
    """Convolutions between max and average pooling."""
    kernels = [_normal(rng, 3, 3, 3, 16), _normal(rng, 3, 3, 16, 32) / 4]

    def pool(x, operation, start):
        return lax.reduce_window(x, start, operation, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")

    def fun(kernels, images):
        x = images
        for kernel in kernels:
            x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = pool(pool(x, lax.max, -jnp.inf), lax.add, 0.0) / 9
        return jnp.sum(x**2)

    return fun, (kernels, _normal(rng, 8, 64, 64, 3))


def cumulative(rng, work=1):
    """Cumulative sums, products, maxima and log-sum-exps, and sorts."""

    def fun(x):
        total = lax.cumsum(x, 1) * lax.cumprod(1 + x / 100, 1)
        return jnp.sum(jnp.sort(total + lax.cummax(x, 1), 1) * lax.cumlogsumexp(x, 1))

    return fun, (_normal(rng, 64, 256),)


def cholesky_solve(rng, work=1):
    """The log-likelihood of a Gaussian: a Cholesky factor, a solve with it and its log-determinant."""
    size = 128

    def fun(a, y):
        factor = jnp.linalg.cholesky(a @ a.T + size * jnp.eye(size))
        z = jax.scipy.linalg.cho_solve((factor, True), y)
        return jnp.sum(y * z) + 2 * jnp.sum(jnp.log(jnp.diag(factor)))

    return fun, (_normal(rng, size, size), _normal(rng, size, 4))


def jitted_layers(rng, work=1):
    """48 layers, one jitted function."""

    @jax.jit
    def layer(x, w):
        return x + jax.nn.gelu(x @ w)

    def fun(weights, x):
        for w in weights:
            x = layer(x, w)
        return jnp.mean(x**2)

    return fun, ([_normal(rng, 64, 64) / 4 for _ in range(48)], _normal(rng, 32, 64))


def scalar_chain(rng, work=1):
    """2,000 operations on one number; work is the length."""

    def fun(x):
        for _ in range(1000 * work):
            x = jnp.sin(x) * 1.01
        return x

    return fun, (jnp.float32(0.7),)


def indexing_loop(rng, work=1):
    """1,000 rows of an array, read one by one; work is the number of rows."""
    rows = 1000 * work

    def fun(x):
        total = 0.0
        for i in range(rows):
            total = total + x[i]
        return jnp.sum(total**2)

    return fun, (_normal(rng, rows, 16),)


def fan_out(rng, work=1):
    """One value used 10,000 times (1,000 for the smaller measure of growth); work is the fan-out."""

    def fun(x):
        shared = jnp.sin(x)
        total = shared
        for _ in range(1000 * work):
            total = total + shared
        return total

    return fun, (jnp.float32(0.3),)


def wide_fan_out(rng, work=1):
    """One value used 10,000 times."""
    return fan_out(rng, 10)


WORKLOADS = {
    "mlp": mlp,
    "residual network": residual_network,
    "efficientnet-lite0": efficientnet_lite0,
    "transformer block": transformer_block,
    "lstm, 100 steps": lstm,
    "embedding": embedding,
    "pooling network": pooling_network,
    "cumulative and sort": cumulative,
    "cholesky solve": cholesky_solve,
    "48 jitted layers": jitted_layers,
    "chain of 2,000": scalar_chain,
    "1,000 indexings": indexing_loop,
    "fan-out 10,000": wide_fan_out,
}

# What grows tenfold, and what of it is timed: a longer program is traced and run op by op, more data is run compiled.
GROWTH = {
    "chain length": (scalar_chain, ("eager", "tracing")),
    "fan-out": (fan_out, ("eager", "tracing")),
    "indexings": (indexing_loop, ("eager", "tracing")),
    "scan length": (lstm, ("eager", "compiled")),
    "batch": (residual_network, ("eager", "compiled")),
}
