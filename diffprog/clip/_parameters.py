"""From the arrays of a CLIP by OpenAI's names to the parameters of our towers; sizes follow from shapes."""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffprog.models import WeightsError

NORM_EPSILON = 1e-5  # of batch norms


class Arrays:
    """Arrays by name, which are taken one by one: what is left at the end belongs to another network."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self._arrays = dict(arrays)
        self._left = set(arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """Look up a shape."""
        return self._get(name).shape

    def _get(self, name):
        if name not in self._arrays:
            raise WeightsError(f"{name} is missing")
        return self._arrays[name]

    def take(self, name: str, *shape: int) -> np.ndarray:
        """Take an array as float32, and check its shape and that its numbers are finite."""
        array = self._get(name)
        if array.shape != shape:
            raise WeightsError(f"{name} has shape {array.shape} where {shape} is expected")
        self._left.discard(name)
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise WeightsError(f"{name} has numbers that are not finite")
        return array

    def count(self, pattern: str) -> int:
        """Count the different numbers that a pattern finds in names."""
        return len({match[1] for name in self._arrays if (match := re.match(pattern, name))})

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def check_all_taken(self) -> None:
        """Raise WeightsError if something is left."""
        if self._left:
            left = sorted(self._left)
            what = f"{len(left)} array{'s' * (len(left) != 1)}"
            raise WeightsError(f"it has {what} that this network has no place for: {', '.join(left[:3])}")


def text_parameters(arrays: Arrays) -> dict[str, Any]:
    """Make the parameters of the text tower."""
    words, width = arrays.shape("token_embedding.weight")
    length, dimensions = arrays.shape("positional_embedding")[0], arrays.shape("text_projection")[-1]
    return {
        "words": jnp.asarray(arrays.take("token_embedding.weight", words, width)),
        "places": jnp.asarray(arrays.take("positional_embedding", length, width)),
        "blocks": _blocks(arrays, "transformer.", width),
        "last_norm": _norm(arrays, "ln_final", width),
        "projection": jnp.asarray(arrays.take("text_projection", width, dimensions)),
    }


def vit_parameters(arrays: Arrays) -> dict[str, Any]:
    """Make the parameters of a vision transformer."""
    (width, _, patch, _), dimensions = arrays.shape("visual.conv1.weight"), arrays.shape("visual.proj")[-1]
    places = arrays.shape("visual.positional_embedding")[0]
    return {
        "patches": jnp.asarray(arrays.take("visual.conv1.weight", width, 3, patch, patch).transpose(2, 3, 1, 0)),
        "whole": jnp.asarray(arrays.take("visual.class_embedding", width)),
        "places": jnp.asarray(arrays.take("visual.positional_embedding", places, width)),
        "first_norm": _norm(arrays, "visual.ln_pre", width),
        "blocks": _blocks(arrays, "visual.transformer.", width),
        "last_norm": _norm(arrays, "visual.ln_post", width),
        "projection": jnp.asarray(arrays.take("visual.proj", width, dimensions)),
    }


def resnet_parameters(arrays: Arrays) -> dict[str, Any]:
    """Make the parameters of a ResNet."""
    width = arrays.shape("visual.layer1.0.conv1.weight")[0]
    half, inner = width // 2, width * 32
    stem = [
        _folded(arrays, f"visual.conv{index}", f"visual.bn{index}", outputs, inputs, 3)
        for index, (outputs, inputs) in enumerate([(half, 3), (half, half), (width, half)], start=1)
    ]
    stages = []
    inputs = width
    for stage in range(1, 5):
        narrow, blocks = width * 2 ** (stage - 1), []
        for index in range(arrays.count(rf"visual\.layer{stage}\.(\d+)\.")):
            blocks.append(_bottleneck(arrays, f"visual.layer{stage}.{index}", inputs, narrow))
            inputs = 4 * narrow
        stages.append(blocks)
    places, dimensions = (
        arrays.shape(f"visual.attnpool.{name}")[0] for name in ("positional_embedding", "c_proj.weight")
    )
    at = "visual.attnpool"
    pool = {
        "places": jnp.asarray(arrays.take(f"{at}.positional_embedding", places, inner)),
        "query": _dense(arrays, f"{at}.q_proj", inner, inner),
        "key": _dense(arrays, f"{at}.k_proj", inner, inner),
        "value": _dense(arrays, f"{at}.v_proj", inner, inner),
        "out": _dense(arrays, f"{at}.c_proj", dimensions, inner),
    }
    return {"stem": stem, "stages": stages, "pool": pool}


def _bottleneck(arrays, at, inputs, narrow):
    weights = {
        "first": _folded(arrays, f"{at}.conv1", f"{at}.bn1", narrow, inputs, 1),
        "second": _folded(arrays, f"{at}.conv2", f"{at}.bn2", narrow, narrow, 3),
        "third": _folded(arrays, f"{at}.conv3", f"{at}.bn3", 4 * narrow, narrow, 1),
    }
    if f"{at}.downsample.0.weight" in arrays:
        weights["around"] = _folded(arrays, f"{at}.downsample.0", f"{at}.downsample.1", 4 * narrow, inputs, 1)
    return weights


def _folded(arrays, convolution, norm, outputs, inputs, side):
    """Fold norm(w * x) into one kernel and one bias, computed in float64."""
    part = lambda name: arrays.take(f"{norm}.{name}", outputs).astype(np.float64)
    scale = part("weight") / np.sqrt(part("running_var") + NORM_EPSILON)
    kernel = arrays.take(f"{convolution}.weight", outputs, inputs, side, side).transpose(2, 3, 1, 0) * scale
    bias = part("bias") - part("running_mean") * scale
    return {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}


def _blocks(arrays, at, width):
    count = arrays.count(re.escape(at) + r"resblocks\.(\d+)\.")
    return [_block(arrays, f"{at}resblocks.{index}", width) for index in range(count)]


def _block(arrays, at, width):
    wide = arrays.shape(f"{at}.mlp.c_fc.weight")[0]
    kernel = arrays.take(f"{at}.attn.in_proj_weight", 3 * width, width).T
    return {
        "attention_norm": _norm(arrays, f"{at}.ln_1", width),
        "heads": {
            "kernel": jnp.asarray(kernel),
            "bias": jnp.asarray(arrays.take(f"{at}.attn.in_proj_bias", 3 * width)),
        },
        "out": _dense(arrays, f"{at}.attn.out_proj", width, width),
        "norm": _norm(arrays, f"{at}.ln_2", width),
        "up": _dense(arrays, f"{at}.mlp.c_fc", wide, width),
        "down": _dense(arrays, f"{at}.mlp.c_proj", width, wide),
    }


def _dense(arrays, at, outputs, inputs):
    kernel = arrays.take(f"{at}.weight", outputs, inputs).T
    return {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(arrays.take(f"{at}.bias", outputs))}


def _norm(arrays, at, width):
    scale, bias = (jnp.asarray(arrays.take(f"{at}.{name}", width)) for name in ("weight", "bias"))
    return {"scale": scale, "bias": bias}
