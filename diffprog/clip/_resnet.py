"""CLIP's ResNet: a stem of three convolutions, average pools in the place of strides, attention in the place of a mean.

Batch norms are folded into the convolutions before them, so each layer is one convolution and one bias.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from diffprog._util.promotion import own_promotion
from diffprog.clip._preprocessing import Preprocessing, prepared
from diffprog.clip._transformer import attention, dense, unit
from diffprog.clip._vit import EMBEDDING
from diffprog.graph import tap


def layers(
    parameters: Any, images: jax.Array, num_heads: int, preprocessing: Preprocessing
) -> Iterator[tuple[str, jax.Array]]:
    """Yield (name, value) of each layer.

    Args:
      parameters: As `parameters_from` makes them.
      images: Array (n, height, width, 3) in [0, 1], of any size.
      num_heads: Heads of the last attention.
      preprocessing: What comes first.

    Yields:
      "stem.1" to "stem.3" and "stem"; for each block "layer1.0.pre", before its last ReLU, and "layer1.0", all
      (n, rows, columns, channels); "embedding" (n, dimensions), of length 1.

    References:
      He et al., "Bag of tricks for image classification", 2019 (ResNet-D). Zhang, "Making convolutional networks
      shift-invariant again", 2019. Radford et al., "Learning transferable visual models from natural language
      supervision", 2021.
    """
    x = _prepared(images, preprocessing)
    for index, weights in enumerate(parameters["stem"], start=1):
        yield f"stem.{index}", (x := _stem(x, weights, index))
    yield "stem", (x := _pooled_stem(x))
    for stage, blocks in enumerate(parameters["stages"], start=1):
        for index, weights in enumerate(blocks):
            name = f"layer{stage}.{index}"
            before, x = _block(x, weights, 2 if stage > 1 and index == 0 else 1, name)
            yield f"{name}.pre", before
            yield name, x
    yield EMBEDDING, _embedding(x, parameters["pool"], num_heads)


def _prepared(images, preprocessing):
    with jax.named_scope("preprocessing"):
        return prepared(images, preprocessing)


@own_promotion()
def _stem(x, weights, index):
    with jax.named_scope("stem"):
        return tap(jax.nn.relu(_convolved(x, weights, stride=2 if index == 1 else 1)), f"stem.{index}")


def _pooled_stem(x):
    return tap(_pooled(x, 2), "stem")


@own_promotion()
def _block(x, weights, stride, name):
    """Run a bottleneck: 1 x 1, 3 x 3, pool, 1 x 1; the way around it is pooled and convolved where shapes change."""
    with jax.named_scope(name):
        y = jax.nn.relu(_convolved(x, weights["first"]))
        y = _pooled(jax.nn.relu(_convolved(y, weights["second"])), stride)
        y = _convolved(y, weights["third"])
        around = _convolved(_pooled(x, stride), weights["around"]) if "around" in weights else x
        before = tap(y + around, f"{name}.pre")
        return before, tap(jax.nn.relu(before), name)


def _convolved(x, weights, stride=1):
    kernel = weights["kernel"]
    margin = kernel.shape[0] // 2
    x = lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(margin, margin)] * 2,  # on both sides, where "SAME" with a stride pads one
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )
    return x + weights["bias"]


def _pooled(x, stride):
    """Average squares of `stride` pixels; what is left over at the edge is dropped."""
    if stride == 1:
        return x
    count, height, width, channels = x.shape
    rows, columns = height // stride, width // stride
    x = x[:, : rows * stride, : columns * stride]
    return x.reshape(count, rows, stride, columns, stride, channels).mean(axis=(2, 4))


@own_promotion()
def _embedding(x, weights, num_heads):
    """Let the mean of all places ask the places and itself, and project what it is told."""
    with jax.named_scope("attnpool"):
        count, rows, columns, width = x.shape
        x = x.reshape(count, rows * columns, width)
        x = jnp.concatenate([x.mean(axis=1, keepdims=True), x], axis=1) + weights["places"]
        heads = lambda name, x: dense(x, weights[name]).reshape(count, x.shape[1], num_heads, width // num_heads)
        mixed = attention(heads("query", x[:, :1]), heads("key", x), heads("value", x))
        return tap(unit(dense(mixed.reshape(count, width), weights["out"])), EMBEDDING)
