"""BERT's encoder: word pieces to one vector for each, and to one for each text."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.promotion import own_promotion
from diffprog.graph import tap

EPSILON = 1e-12  # of layer normalization
EMBEDDINGS = "word_embeddings"  # the tap on what the table gives for each piece


def embedded(parameters: Any, ids: jax.Array) -> jax.Array:
    """Look word pieces up: int (n, length) to float32 (n, length, width)."""
    return jnp.take(parameters["words"], ids, axis=0, mode="clip")


@own_promotion()
def hidden_states(parameters: Any, rows: jax.Array, mask: jax.Array, num_heads: int) -> jax.Array:
    """Compute a vector for each word piece.

    Args:
      parameters: as `parameters_from` makes them.
      rows: what the table gives for each piece, (n, length, width). They are under `dp.tap("word_embeddings")`, and
        each layer's values under "layers.0" and so on.
      mask: bool (n, length), False where a text is filled up.
      num_heads: heads of attention.

    Returns:
      float32 (n, length, width).

    References:
      Devlin et al., "BERT: pre-training of deep bidirectional transformers", 2019.
    """
    x = tap(rows, EMBEDDINGS) + parameters["places"][: rows.shape[1]] + parameters["kinds"][0]
    x = _normalized(x, parameters["norm"])
    for index, layer in enumerate(parameters["layers"]):
        with jax.named_scope(f"layers.{index}"):
            x = tap(_layer(x, layer, mask, num_heads), f"layers.{index}")
    return x


@own_promotion()
def pooled(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Average vectors (n, length, width) where the mask is True, and scale each mean to length 1: (n, width)."""
    weights = mask[..., None].astype(values.dtype)
    means = (values * weights).sum(axis=1) / jnp.maximum(weights.sum(axis=1), 1)
    # Under the square root no 0, whose derivative is infinite.
    squares = jnp.maximum((means**2).sum(axis=-1, keepdims=True), 1e-24)
    return means / jnp.sqrt(squares)


def _layer(x, layer, mask, num_heads):
    x = _normalized(x + _attention(x, layer, mask, num_heads), layer["attention_norm"])
    wide = jax.nn.gelu(_dense(x, layer["up"]), approximate=False)
    return _normalized(x + _dense(wide, layer["down"]), layer["norm"])


def _attention(x, layer, mask, num_heads):
    count, length, width = x.shape
    heads = lambda name: _dense(x, layer[name]).reshape(count, length, num_heads, width // num_heads)
    queries, keys, values = heads("query"), heads("key"), heads("value")
    scores = _product("nqhd,nkhd->nhqk", queries, keys) / math.sqrt(width // num_heads)
    scores = jnp.where(mask[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
    mixed = _product("nhqk,nkhd->nqhd", jax.nn.softmax(scores), values)
    return _dense(mixed.reshape(count, length, width), layer["out"])


def _dense(x, weights):
    return _product("...i,io->...o", x, weights["kernel"]) + weights["bias"]


def _product(formula, a, b):
    return jnp.einsum(formula, a, b, precision="highest")  # without it, GPUs keep ten bits


def _normalized(x, weights):
    centered = x - x.mean(axis=-1, keepdims=True)
    scaled = centered * jax.lax.rsqrt((centered**2).mean(axis=-1, keepdims=True) + EPSILON)
    return scaled * weights["scale"] + weights["bias"]


def parameters_from(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Make parameters of a file of `transformers.BertModel`: its kernels are [out, in].

    Args:
      state: arrays by name, with or without "bert." in front.
    """
    prefix = "bert." if any(name.startswith("bert.") for name in state) else ""
    array = lambda name: jnp.asarray(state[prefix + name], jnp.float32)
    dense = lambda name: {"kernel": array(f"{name}.weight").T, "bias": array(f"{name}.bias")}
    norm = lambda name: {"scale": array(f"{name}.weight"), "bias": array(f"{name}.bias")}

    def layer(index):
        at = f"encoder.layer.{index}"
        return {
            **{name: dense(f"{at}.attention.self.{name}") for name in ("query", "key", "value")},
            "out": dense(f"{at}.attention.output.dense"),
            "attention_norm": norm(f"{at}.attention.output.LayerNorm"),
            "up": dense(f"{at}.intermediate.dense"),
            "down": dense(f"{at}.output.dense"),
            "norm": norm(f"{at}.output.LayerNorm"),
        }

    count = sum(name.endswith(".intermediate.dense.bias") for name in state)
    return {
        "words": array("embeddings.word_embeddings.weight"),
        "places": array("embeddings.position_embeddings.weight"),
        "kinds": array("embeddings.token_type_embeddings.weight"),
        "norm": norm("embeddings.LayerNorm"),
        "layers": [layer(index) for index in range(count)],
    }
