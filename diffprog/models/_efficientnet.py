"""EfficientNet-Lite (Tan and Le 2019; the Lite variants of 2020 drop squeeze-and-excite and take ReLU6).

Batch norms are folded into the convolutions before them, so each layer is one convolution and one bias.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from diffprog.graph import tap
from diffprog.models._depthwise import depthwise_convolution

EPSILON = 1e-3  # of the batch norms


class Block(NamedTuple):
    """One inverted residual block: expand (1x1), depthwise (k x k), project (1x1, linear)."""

    kernel: int
    stride: int
    expansion: int
    inputs: int
    outputs: int

    @property
    def skips(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.inputs == self.outputs


STAGES = (  # of Lite0: repeats, then the first block; the others have stride 1 and as many inputs as outputs
    (1, Block(3, 1, 1, 32, 16)),
    (2, Block(3, 2, 6, 16, 24)),
    (2, Block(5, 2, 6, 24, 40)),
    (3, Block(3, 2, 6, 40, 80)),
    (3, Block(5, 1, 6, 80, 112)),
    (4, Block(5, 2, 6, 112, 192)),
    (1, Block(3, 1, 6, 192, 320)),
)


def blocks(width: float = 1.0, depth: float = 1.0) -> tuple[Block, ...]:
    """List the blocks of the variant whose stages are `width` times as wide and `depth` times as deep as Lite0's.

    The first and last stage are never repeated, and stem and head keep their widths: this is what makes it Lite.
    """
    chain, inputs = [], STAGES[0][1].inputs
    for repeats, first in STAGES:
        outputs = _multiple_of_eight(width * first.outputs)
        for repeat in range(math.ceil(depth * repeats) if repeats > 1 else 1):
            chain.append(first._replace(stride=1 if repeat else first.stride, inputs=inputs, outputs=outputs))
            inputs = outputs
    return tuple(chain)


def _multiple_of_eight(channels):
    """Round to the nearest multiple of eight, or up if that is more than a tenth too few."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


BLOCKS = blocks()  # of Lite0


def layers(
    parameters: Any, images: jax.Array, chain: tuple[Block, ...] = BLOCKS, convolution: str = "fast"
) -> Iterator[tuple[str, jax.Array]]:
    """Yield (name, value) of each layer, from "stem.pre" to "logits".

    Args:
      parameters: As `parameters_from` makes them.
      images: Array (n, height, width, 3) in [0, 1].
      chain: The blocks.
      convolution: "fast", or "native" for `conv_general_dilated` throughout.

    Yields:
      A name that ends in ".pre" is the value before a ReLU6; block outputs ("blocks.0" ...) are linear.
    """
    convolve = CONVOLUTIONS[convolution]
    x = yield from _within("stem", _stem(images, parameters["stem"], convolve))
    for index, (block, weights) in enumerate(zip(chain, parameters["blocks"], strict=True)):
        name = f"blocks.{index}"
        x = yield from _within(name, _block(name, x, block, weights, convolve))
    yield from _within("head", _head(x, parameters, convolve))


def _stem(images, weights, convolve):
    yield from _rectified("stem", convolve.dense((255 * images - 127) / 128, weights, 2))


def _block(name, x, block, weights, convolve):
    start = x
    if block.expansion > 1:
        x = yield from _rectified(f"{name}.expand", convolve.pointwise(x, weights["expand"]))
    x = yield from _rectified(f"{name}.depthwise", convolve.depthwise(x, weights["depthwise"], block.stride))
    x = convolve.pointwise(x, weights["project"])
    yield name, tap(x + start if block.skips else x, name)


def _head(x, parameters, convolve):
    x = yield from _rectified("head", convolve.pointwise(x, parameters["head"]))
    kernel, bias = parameters["logits"]["kernel"], parameters["logits"]["bias"]
    yield "logits", tap(add_bias(x.mean(axis=(1, 2)) @ kernel, bias), "logits")


def _rectified(name, x):
    """Yield a convolution's values before a ReLU6 and behind it, under their names; return the latter."""
    yield f"{name}.pre", (x := tap(x, f"{name}.pre"))
    yield name, (x := tap(relu6(x), name))
    return x


def _within(scope, steps):
    """Run steps under a `jax.named_scope`, which is left whenever the generator waits; return the last one's value."""
    value = None
    while True:
        with jax.named_scope(scope):
            step = next(steps, None)
        if step is None:
            return value
        yield step
        _, value = step


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """Add a number to each channel, explicitly: JAX can be set to refuse what broadcasts by itself."""
    return x + jnp.broadcast_to(bias, x.shape)


def relu6(x: jax.Array) -> jax.Array:
    """Clip to [0, 6]."""
    # As one operation: its derivative keeps a mask of one byte an element, and not the activations.
    return lax.clamp(jnp.zeros((), x.dtype), x, jnp.full((), 6, x.dtype))


class Convolutions(NamedTuple):
    """Convolutions (x, {"kernel": HWIO, "bias"}, ...) -> NHWC with SAME padding."""

    dense: Callable[..., jax.Array]
    depthwise: Callable[..., jax.Array]
    pointwise: Callable[..., jax.Array]


def _native(x, weights, stride=1):
    groups = x.shape[-1] // weights["kernel"].shape[2]
    x = lax.conv_general_dilated(
        x,
        weights["kernel"],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    return add_bias(x, weights["bias"])


def _shifted(x, weights, stride):
    kernel = weights["kernel"]
    padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (stride, stride), "SAME")
    return add_bias(depthwise_convolution(x, kernel, (stride, stride), tuple(padding)), weights["bias"])


def _matrix(x, weights):
    return add_bias(jnp.tensordot(x, weights["kernel"][0, 0], 1), weights["bias"])


CONVOLUTIONS = {
    "fast": Convolutions(dense=_native, depthwise=_shifted, pointwise=_matrix),
    "native": Convolutions(dense=_native, depthwise=_native, pointwise=_native),
}


# From the weights file's names and layout to ours.


def parameters_from(state: Mapping[str, np.ndarray], chain: tuple[Block, ...] = BLOCKS) -> dict[str, Any]:
    """Make parameters for `layers` from the state dict of the PyTorch package: OIHW kernels, separate batch norms."""
    block = lambda index, kind: (f"_blocks.{index}._{kind}_conv", f"_blocks.{index}._bn{NORMS[kind]}")
    kinds = lambda index: ["expand", "depthwise", "project"][chain[index].expansion == 1 :]
    return {
        "stem": _folded(state, "_conv_stem", "_bn0"),
        "blocks": [{kind: _folded(state, *block(i, kind)) for kind in kinds(i)} for i in range(len(chain))],
        "head": _folded(state, "_conv_head", "_bn1"),
        "logits": {"kernel": jnp.asarray(state["_fc.weight"].T), "bias": jnp.asarray(state["_fc.bias"])},
    }


NORMS = {"expand": 0, "depthwise": 1, "project": 2}


def _folded(state, convolution, norm):
    """Fold norm(w * x) into one kernel and one bias, computed in float64."""
    part = lambda name: np.asarray(state[f"{norm}.{name}"], np.float64)
    scale = part("weight") / np.sqrt(part("running_var") + EPSILON)
    kernel = np.asarray(state[f"{convolution}.weight"], np.float64).transpose(2, 3, 1, 0) * scale
    bias = part("bias") - part("running_mean") * scale
    return {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}
