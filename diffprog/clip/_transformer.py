"""The transformer of CLIP's towers: blocks that normalize first, with QuickGELU or GELU."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffprog._util.promotion import own_promotion
from diffprog.graph import tap

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "gelu": partial(jax.nn.gelu, approximate=False),
}


class Kind(NamedTuple):
    """What the weights of a transformer do not say.

    Attributes:
      num_heads: Heads of attention.
      activation: "quick_gelu" or "gelu".
      epsilon: What is added to the variance in layer normalization.
      is_causal: Whether a place sees only itself and those before it.
    """

    num_heads: int
    activation: str
    epsilon: float = 1e-5
    is_causal: bool = False


class BlockValues(NamedTuple):
    """What a block computes: what attention adds, the hidden units behind the activation, and the sum of all."""

    attention: jax.Array
    hidden: jax.Array
    output: jax.Array


@own_promotion()
def block(x: jax.Array, weights: Any, kind: Kind, name: str) -> BlockValues:
    """Run one block; its values are under taps "NAME.attention", "NAME.hidden" and "NAME".

    Args:
      x: float (n, places, width).
      weights: The block's parameters.
      kind: What they do not say.
      name: The block's.

    Returns:
      `BlockValues`, of (n, places, width), (n, places, hidden width) and (n, places, width).

    References:
      Radford et al., "Learning transferable visual models from natural language supervision", 2021. Hendrycks & Gimpel,
      "Gaussian error linear units", 2016, which has the sigmoid with 1.702 as an approximation.
    """
    with jax.named_scope(name):
        added = tap(
            _attention(normalized(x, weights["attention_norm"], kind.epsilon), weights, kind), f"{name}.attention"
        )
        x = x + added
        wide = dense(normalized(x, weights["norm"], kind.epsilon), weights["up"])
        hidden = tap(ACTIVATIONS[kind.activation](wide), f"{name}.hidden")
        return BlockValues(added, hidden, tap(x + dense(hidden, weights["down"]), name))


def _attention(x, weights, kind):
    count, places, width = x.shape
    heads = dense(x, weights["heads"]).reshape(count, places, 3, kind.num_heads, width // kind.num_heads)
    mixed = attention(heads[:, :, 0], heads[:, :, 1], heads[:, :, 2], kind.is_causal)
    return dense(mixed.reshape(count, places, width), weights["out"])


@own_promotion()
def attention(queries: jax.Array, keys: jax.Array, values: jax.Array, is_causal: bool = False) -> jax.Array:
    """Mix values by how well keys answer queries: (n, q, heads, d) and twice (n, k, heads, d) to (n, q, heads, d)."""
    scores = product("nqhd,nkhd->nhqk", queries, keys) / math.sqrt(queries.shape[-1])
    if is_causal:
        seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        scores = jnp.where(seen, scores, jnp.finfo(scores.dtype).min)
    return product("nhqk,nkhd->nqhd", jax.nn.softmax(scores), values)


@own_promotion()
def dense(x: jax.Array, weights: Any) -> jax.Array:
    """Multiply by a kernel [in, out], and add a bias."""
    return product("...i,io->...o", x, weights["kernel"]) + weights["bias"]


def product(formula: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """Compute an Einstein sum with all bits of its arguments, of which GPUs and TPUs keep few by default."""
    return jnp.einsum(formula, a, b, precision="highest")


@own_promotion()
def normalized(x: jax.Array, weights: Any, epsilon: float) -> jax.Array:
    """Normalize each vector to mean 0 and variance 1, then scale and shift."""
    centered = x - x.mean(axis=-1, keepdims=True)
    scaled = centered * jax.lax.rsqrt((centered**2).mean(axis=-1, keepdims=True) + epsilon)
    return scaled * weights["scale"] + weights["bias"]


@own_promotion()
def unit(vectors: jax.Array) -> jax.Array:
    """Scale vectors (n, width) to length 1."""
    # Under the square root no 0, whose derivative is infinite.
    return vectors / jnp.sqrt(jnp.maximum((vectors**2).sum(axis=-1, keepdims=True), 1e-24))
