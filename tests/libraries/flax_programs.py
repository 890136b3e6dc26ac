"""Flax: Linen and NNX modules, with batch statistics, dropout, scans over layers and checkpoints."""

import jax
import jax.numpy as jnp
import jax.random as jr
from flax import linen as nn
from flax import nnx

from tests.libraries.program import Program

X = jr.normal(jr.key(0), (4, 6))
IMAGES = jr.normal(jr.key(1), (2, 8, 8, 3))
TOKENS = jr.normal(jr.key(2), (2, 5, 8))


def linen(module, x, mutable=False, **options):
    """Make the loss of a Linen module's parameters."""
    variables = module.init({"params": jr.key(0), "dropout": jr.key(1)}, x, **options)
    rest = {name: value for name, value in variables.items() if name != "params"}

    def loss(params):
        outcome = module.apply(
            {"params": params, **rest},
            x,
            rngs={"dropout": jr.key(2)},
            mutable=list(rest) if mutable else False,
            **options,
        )
        return jnp.sum(jnp.sin(outcome[0] if mutable else outcome))

    return Program(loss, jax.tree.map(lambda w: w.astype(jnp.float64), variables["params"]))


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.gelu(nn.LayerNorm()(nn.Dense(8)(x))))


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.max_pool(nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(x))), (2, 2), (2, 2))
        return nn.Dense(2)(nn.Dropout(0.3, deterministic=not train)(x.reshape(len(x), -1)))


class Layered(nn.Module):
    """A scan over three layers, each recomputed in the backward pass."""

    @nn.compact
    def __call__(self, x):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                return jnp.tanh(nn.Dense(6)(x)), None

        layers = nn.scan(nn.remat(Layer), variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return layers()(x, None)[0]


def nnx_loss(make, x):
    """Make the loss of an NNX module's parameters."""
    graph, params, rest = nnx.split(make(nnx.Rngs(0)), nnx.Param, ...)

    def loss(params):  # on a copy: batch statistics and the numbers of draws are written
        return jnp.sum(jnp.sin(nnx.merge(graph, params, rest, copy=True)(x)))

    # 1e-6: parts of NNX's layers compute in float32 whatever their parameters are
    return Program(loss, jax.tree.map(lambda w: w.astype(jnp.float64), params), tolerance=1e-6)


class Block(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)
        self.norm, self.dropout = nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x):
        return self.second(self.dropout(nnx.relu(self.norm(self.first(x)))))


PROGRAMS = {
    "Linen: layer norm and gelu": linen(Mlp(), X),
    "Linen: convolutions, batch norm, dropout, pooling": linen(Convolutional(), IMAGES, mutable=True, train=True),
    "Linen: attention": linen(nn.MultiHeadDotProductAttention(2), TOKENS),
    "Linen: scan over layers with remat": linen(Layered(), X),
    "Linen: LSTM": linen(nn.RNN(nn.LSTMCell(5, param_dtype=jnp.float64)), TOKENS),
    "NNX: batch norm and dropout": nnx_loss(Block, X),
    "NNX: attention": nnx_loss(lambda rngs: nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs), TOKENS),
    "NNX: convolution": nnx_loss(
        lambda rngs: nnx.Sequential(nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.relu, nnx.Conv(4, 2, (3, 3), rngs=rngs)),
        IMAGES,
    ),
    "NNX: GRU": nnx_loss(lambda rngs: nnx.RNN(nnx.GRUCell(8, 5, param_dtype=jnp.float64, rngs=rngs)), TOKENS),
}
