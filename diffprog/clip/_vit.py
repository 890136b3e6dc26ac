"""CLIP's vision transformer: patches of a picture, and a place for the whole of it, through blocks of attention."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from diffprog._util.promotion import own_promotion
from diffprog.clip._preprocessing import Preprocessing, prepared
from diffprog.clip._transformer import Kind, block, normalized, product, unit
from diffprog.graph import tap

EMBEDDING = "embedding"  # the layer of unit vectors


def layers(
    parameters: Any, images: jax.Array, kind: Kind, preprocessing: Preprocessing
) -> Iterator[tuple[str, jax.Array]]:
    """Yield (name, value) of each layer.

    Args:
      parameters: As `parameters_from` makes them.
      images: Array (n, height, width, 3) in [0, 1], of any size.
      kind: Heads, activation, epsilon.
      preprocessing: What comes first.

    Yields:
      "patches" (n, rows, columns, width); "tokens" (n, 1 + rows x columns, width), the whole picture first; for each
      block "blocks.0.attention", what attention adds, "blocks.0.hidden", units behind the activation, and "blocks.0";
      "embedding" (n, dimensions), of length 1.

    References:
      Dosovitskiy et al., "An image is worth 16x16 words", 2021.
    """
    yield "patches", (x := _patches(parameters, images, preprocessing))
    yield "tokens", (x := _tokens(parameters, x, kind))
    for index, weights in enumerate(parameters["blocks"]):
        name = f"blocks.{index}"
        values = block(x, weights, kind, name)
        yield f"{name}.attention", values.attention
        yield f"{name}.hidden", values.hidden
        yield name, (x := values.output)
    yield EMBEDDING, _embedding(parameters, x, kind)


@own_promotion()
def _patches(parameters, images, preprocessing):
    images = prepared(images, preprocessing)
    kernel = parameters["patches"]  # (patch, patch, 3, width): patches do not overlap, so that it is a product
    patch, grid = kernel.shape[0], preprocessing.size // kernel.shape[0]
    pieces = images.reshape(len(images), grid, patch, grid, patch, 3)
    return tap(product("nypxqc,pqcw->nyxw", pieces, kernel), "patches")


@own_promotion()
def _tokens(parameters, patches, kind):
    count, rows, columns, width = patches.shape
    whole = jnp.broadcast_to(parameters["whole"], (count, 1, width))
    x = jnp.concatenate([whole, patches.reshape(count, rows * columns, width)], axis=1) + parameters["places"]
    return tap(normalized(x, parameters["first_norm"], kind.epsilon), "tokens")


@own_promotion()
def _embedding(parameters, x, kind):
    whole = normalized(x[:, 0], parameters["last_norm"], kind.epsilon)
    return tap(unit(product("ni,io->no", whole, parameters["projection"])), EMBEDDING)
