"""A multilayer perceptron: the smallest network that deserves the name."""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp


def initialize(key: jax.Array, sizes: Sequence[int]) -> list[tuple[jax.Array, jax.Array]]:
    """A (weights [in, out], bias [out]) pair per layer: He et al. (2015)'s normal weights, eq. 10, and zero biases."""
    return [
        (jax.random.normal(jax.random.fold_in(key, layer), (rows, columns)) * jnp.sqrt(2 / rows), jnp.zeros(columns))
        for layer, (rows, columns) in enumerate(pairwise(sizes))
    ]


def apply(parameters: Sequence[tuple[jax.Array, jax.Array]], inputs: jax.Array) -> jax.Array:
    """Logits [n, classes] of inputs [n, features], with ReLU between the layers."""
    *hidden, (weights, bias) = parameters
    for hidden_weights, hidden_bias in hidden:
        inputs = jax.nn.relu(inputs @ hidden_weights + hidden_bias)
    return inputs @ weights + bias
