"""A multilayer perceptron: the smallest network that deserves the name."""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp

from diffprog._util.promotion import own_promotion

__all__ = ["apply", "initialize"]


def initialize(key: jax.Array, sizes: Sequence[int]) -> list[tuple[jax.Array, jax.Array]]:
    """Draw normal weights whose variance is 2 / inputs of the layer, and set the biases to zero.

    Args:
      key: random key.
      sizes: numbers of inputs, of units of each hidden layer, and of classes.

    Returns:
      A pair of weights (in, out) and biases (out,) for each layer.

    References:
      K. He, X. Zhang, S. Ren & J. Sun, "Delving deep into rectifiers", ICCV 2015, equation 10.
    """
    return [
        (jax.random.normal(jax.random.fold_in(key, layer), (rows, columns)) * jnp.sqrt(2 / rows), jnp.zeros(columns))
        for layer, (rows, columns) in enumerate(pairwise(sizes))
    ]


@own_promotion()
def apply(parameters: Sequence[tuple[jax.Array, jax.Array]], inputs: jax.Array) -> jax.Array:
    """Compute the logits, with ReLU between the layers.

    Args:
      parameters: weights and biases of each layer, as `initialize` makes them.
      inputs: (n, features).

    Returns:
      Logits (n, classes).
    """
    *hidden, (weights, bias) = parameters
    for hidden_weights, hidden_bias in hidden:
        inputs = jax.nn.relu(inputs @ hidden_weights + hidden_bias)
    return inputs @ weights + bias
