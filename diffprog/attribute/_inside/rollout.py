"""How attention mixes positions over all layers of a transformer."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import Tracer
from diffprog._util.promotion import own_promotion

HEADS: dict[str, Callable[..., jax.Array]] = {"mean": jnp.mean, "max": jnp.max, "min": jnp.min}
ROUNDING = 1e-3  # of a row's sum


@own_promotion()
def attention_rollout(
    attentions: Sequence[jax.Array] | jax.Array, *, heads: str | None = "mean", residual: float = 0.5
) -> jax.Array:
    """Multiply the attention of all layers, each mixed with the identity for the residual connection.

    Args:
      attentions: of each layer from the first, (..., heads, positions, positions): a list, or an array with the layers
        in front, as `dp.activations` takes them out of a `scan`. Row i says where position i looks; rows sum to 1.
      heads: how heads are joined: "mean", "max" or "min", after which rows are normalized again; None if there is no
        axis of heads.
      residual: weight of the identity, 0 to 1.

    Returns:
      (..., positions, positions): how much of each first position is in each last one; rows sum to 1.

    Raises:
      ValueError: the shapes do not fit, or rows do not sum to 1.

    References:
      Abnar & Zuidema, "Quantifying attention flow in transformers", 2020.
    """
    layers = [jnp.asarray(layer) for layer in attentions]
    if not layers:
        raise ValueError("attention_rollout takes the attention of one layer or more; found none")
    if heads is not None and heads not in HEADS:
        raise ValueError(f"heads must be one of {', '.join(map(repr, HEADS))} or None; found {heads!r}")
    if not 0 <= residual <= 1:
        raise ValueError(f"residual is the weight of the identity, from 0 to 1; found {residual!r}")
    least = 2 if heads is None else 3
    for number, layer in enumerate(layers):
        _check(number, layer, least, layers[0].shape)
    total: Any = None
    for layer in layers:
        joined = layer if heads is None else HEADS[heads](layer, axis=-3)
        mixed = (1 - residual) * joined + residual * jnp.eye(joined.shape[-1], dtype=joined.dtype)
        mixed = mixed / mixed.sum(axis=-1, keepdims=True)
        total = mixed if total is None else mixed @ total
    return total


def _check(number, layer, least, first):
    is_square = layer.ndim >= least and layer.shape[-1] == layer.shape[-2]
    if not is_square or layer.shape[-1:] != first[-1:] or not jnp.issubdtype(layer.dtype, jnp.floating):
        kind = "(..., positions, positions)" if least == 2 else "(..., heads, positions, positions)"
        raise ValueError(f"attention must be floats {kind}, alike in all layers; layer {number} is {layer.shape}")
    if isinstance(layer, Tracer):
        return
    sums = np.asarray(layer.sum(axis=-1), np.float64)
    if not (np.abs(sums - 1) < ROUNDING).all():
        raise ValueError(
            f"rows of attention must sum to 1; in layer {number} they sum to {sums.min():.3g} up to {sums.max():.3g}: "
            "give the weights after the softmax, without dropout"
        )
