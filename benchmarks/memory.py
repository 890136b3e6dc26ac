"""Gradients within a budget of memory beside `jax.grad` and `jax.checkpoint`, in one run.

Per program and budget (a fraction of what `jax.grad` holds): what the compiled program holds beyond its arguments and
results, its time, the time of tracing with all plans that were tried, and the error against `jax.grad` (norm of the
difference over the norm). The rows "checkpoint" are `jax.checkpoint` around each layer, by JAX and by diffprog; the
rows "unrolled" are loops written out.

python -m benchmarks.memory [--programs NAME ...] [--seconds S] [--json FILE]
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import diffprog as dp
from benchmarks.timing import alternate, clock, write_json
from diffprog import models

MB = 2**20


def _normal(*shape):
    fan_in = int(np.prod(shape[:-1]))
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape) / np.sqrt(fan_in), jnp.float32)


def chain(wrap: Callable):
    """64 layers of a matrix and tanh, 8 a checkpoint."""

    def eight(x, layers):
        for layer in layers:
            x = jnp.tanh(x @ layer)
        return x

    def loss(layers, x):
        for i in range(0, 64, 8):
            x = wrap(eight)(x, layers[i : i + 8])
        return jnp.sum(x**2)

    return loss, ([_normal(256, 256) + i / 1e4 for i in range(64)], _normal(4096, 256))


def _standardized(x, axes):
    centered = x - x.mean(axes, keepdims=True)
    return centered * lax.rsqrt((centered**2).mean(axes, keepdims=True) + 1e-5)


def transformer(wrap: Callable):
    """12 layers of causal attention and a GELU layer, width 256, 4 sequences of 256 tokens."""
    width, heads, length = 256, 4, 256

    def layer(x, weights):
        h = _standardized(x, -1)
        query, key, value = (jnp.reshape(h @ weights[name], (*h.shape[:2], heads, -1)) for name in "qkv")
        scores = jnp.einsum("nihc,njhc->nhij", query, key) / np.sqrt(width / heads)
        shares = jax.nn.softmax(jnp.where(jnp.tri(length, dtype=bool), scores, -1e9))
        x = x + jnp.einsum("nhij,njhc->nihc", shares, value).reshape(x.shape) @ weights["mix"]
        return x + jax.nn.gelu(_standardized(x, -1) @ weights["up"]) @ weights["down"]

    def loss(parameters, tokens):
        layers, table = parameters
        x = table[tokens]
        for weights in layers:
            x = wrap(layer)(x, weights)
        scores = jax.nn.log_softmax(x @ table.T)
        return -jnp.mean(jnp.take_along_axis(scores, jnp.roll(tokens, -1, 1)[..., None], -1))

    square = {name: _normal(width, width) for name in ("q", "k", "v", "mix")}
    layers = [{**square, "up": _normal(width, 4 * width), "down": _normal(4 * width, width)} for _ in range(12)]
    return loss, ((layers, _normal(512, width)), jnp.asarray(np.random.default_rng(0).integers(0, 512, (4, length))))


def _convolve(x, kernel, stride=1):
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def resnet(wrap: Callable):
    """12 residual blocks with batch statistics, 16 images of 48 pixels."""

    def block(x, kernels):
        h = jax.nn.relu(_standardized(_convolve(x, kernels[0]), (0, 1, 2)))
        return jax.nn.relu(x + _standardized(_convolve(h, kernels[1]), (0, 1, 2)))

    def loss(parameters, images):
        x = jax.nn.relu(_convolve(images, parameters["stem"]))
        for kernels in parameters["blocks"]:
            x = wrap(block)(x, kernels)
        return jnp.mean(jax.nn.logsumexp(x.mean((1, 2)) @ parameters["last"], axis=1))

    blocks = [[_normal(3, 3, 32, 32) + i / 1e4 for i in (j, -j)] for j in range(12)]
    return loss, ({"stem": _normal(3, 3, 3, 32), "blocks": blocks, "last": _normal(32, 10)}, _normal(16, 48, 48, 3))


def unet(wrap: Callable):
    """4 levels down and up again with skip connections, 8 images of 64 pixels."""

    def loss(parameters, images):
        x, skipped = jax.nn.silu(_convolve(images, parameters["first"])), []
        for same, down in parameters["down"]:
            x = jax.nn.silu(_convolve(x, same))
            skipped.append(x)
            x = jax.nn.silu(_convolve(x, down, 2))
        for (mix, same), skip in zip(parameters["up"], reversed(skipped), strict=True):
            x = jnp.concatenate([jnp.repeat(jnp.repeat(x, 2, 1), 2, 2), skip], -1)
            x = jax.nn.silu(_convolve(jax.nn.silu(_convolve(x, mix)), same))
        return jnp.mean(_convolve(x, parameters["last"]) ** 2)

    widths = [16 * 2**i for i in range(5)]
    parameters = {
        "first": _normal(3, 3, 3, 16),
        "down": [(_normal(3, 3, a, a), _normal(3, 3, a, b)) for a, b in pairwise(widths)],
        "up": [(_normal(3, 3, a + 2 * a, a), _normal(3, 3, a, a)) for a in reversed(widths[:-1])],
        "last": _normal(3, 3, 16, 3),
    }
    return loss, (parameters, _normal(8, 64, 64, 3))


def recurrent(wrap: Callable):
    """1,000 steps of a recurrent network by `lax.scan`."""
    step = lambda weights: lambda h, x: (jnp.tanh(h @ weights[0] + x @ weights[1]), None)

    def loss(weights, xs):
        return jnp.sum(lax.scan(step(weights), jnp.zeros((64, 128)), xs)[0] ** 2)

    return loss, ((_normal(128, 128), _normal(128, 128) * 0.9), _normal(1000, 64, 128))


def reaction_diffusion(wrap: Callable):
    """500 steps of the Gray-Scott equations on 128 x 128 points."""

    def spread(field):
        return sum(jnp.roll(field, shift, axis) for shift in (1, -1) for axis in (0, 1)) - 4 * field

    def loss(rates, start):
        def step(fields, _):
            a, b = fields
            reaction = a * b * b
            a = a + 0.16 * spread(a) - reaction + rates[0] * (1 - a)
            return (a, b + 0.08 * spread(b) + reaction - (rates[0] + rates[1]) * b), None

        return jnp.sum(lax.scan(step, (start[0], start[1]), None, length=500)[0][1] ** 2)

    start = jnp.stack([jnp.ones((128, 128)), jnp.zeros((128, 128)).at[50:70, 50:70].set(1.0)])
    return loss, (jnp.array([0.037, 0.06]), start)


def efficientnet(wrap: Callable):
    """EfficientNet-Lite0 by its weights, 4 images of 128 pixels."""
    model = models.load("efficientnet_lite0")

    def loss(parameters, images):
        return jnp.mean(jax.nn.logsumexp(model.apply(parameters, images), axis=1))

    return loss, (model.parameters, jnp.asarray(np.random.default_rng(0).random((4, 128, 128, 3)), jnp.float32))


def vision_transformer(wrap: Callable):
    """8 blocks of a vision transformer in Flax, 8 images of 128 pixels in patches of 8."""

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.LayerNorm()(x)
            x = x + nn.MultiHeadDotProductAttention(4)(h, h)
            return x + nn.Dense(192)(nn.gelu(nn.Dense(768)(nn.LayerNorm()(x))))

    class Transformer(nn.Module):
        @nn.compact
        def __call__(self, images):
            x = jnp.reshape(nn.Conv(192, (8, 8), (8, 8))(images), (8, 256, 192))
            x = x + self.param("positions", nn.initializers.normal(0.02), (256, 192))
            for _ in range(8):
                x = Block()(x)
            return nn.Dense(10)(nn.LayerNorm()(x).mean(1))

    model, images = Transformer(), _normal(8, 128, 128, 3)
    loss = lambda parameters, images: jnp.mean(jax.nn.logsumexp(model.apply(parameters, images), axis=1))
    return loss, (model.init(jax.random.key(0), images), images)


def perceptron(wrap: Callable):
    """24 layers of an Equinox MLP of width 256, over 4,096 examples by `vmap`."""
    model = eqx.nn.MLP(256, 10, 256, 24, jax.nn.gelu, key=jax.random.key(0))
    parameters, static = eqx.partition(model, eqx.is_array)
    loss = lambda parameters, x: jnp.mean(jax.vmap(eqx.combine(parameters, static))(x) ** 2)
    return loss, (parameters, _normal(4096, 256))


def convolutions(repeat: Callable):
    """A scan over 8 convolutions, 8 images of 32 pixels and 32 channels."""
    layer = lambda x, kernel: (x + jnp.tanh(_convolve(x, kernel)), None)
    loss = lambda kernels, x: jnp.sum(repeat(layer, x, kernels)[0] ** 2)
    return loss, (jnp.stack([_normal(3, 3, 32, 32) + i / 1e4 for i in range(8)]), _normal(8, 32, 32, 32))


PROGRAMS: dict[str, tuple[Callable, tuple[float, ...]]] = {
    "chain of 64": (chain, (0.5, 0.25, 0.125)),
    "transformer": (transformer, (0.5, 0.25, 0.1)),
    "ResNet": (resnet, (0.5, 0.25)),
    "U-Net": (unet, (0.5, 0.4)),
    "recurrent": (recurrent, (0.25, 0.08)),
    "reaction-diffusion": (reaction_diffusion, (0.25, 0.06)),
    "EfficientNet-Lite0": (efficientnet, (0.75, 0.5)),
    "Flax ViT": (vision_transformer, (0.5, 0.25)),
    "Equinox MLP": (perceptron, (0.5, 0.25)),
    "scan of convolutions": (lambda _: convolutions(lax.scan), (0.5,)),
}
# What users write instead: `jax.checkpoint` around each layer, layers without a loop.
INSTEAD: dict[str, tuple[str, Callable]] = {
    **{
        name: ("checkpoint", partial(PROGRAMS[name][0], jax.checkpoint))
        for name in ("chain of 64", "transformer", "ResNet")
    },
    "scan of convolutions": ("unrolled", lambda: convolutions(partial(lax.scan, unroll=True))),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS), choices=list(PROGRAMS), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=20, help="about how long all runs of a program may take")
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    print(f"{'':<36} {'MB':>8} {'of JAX':>7} {'time / JAX':>11} {'planning':>9} {'compiling':>10} {'error':>8}")
    rows = []
    for name in options.programs:
        rows += _measured(name, options.seconds)
    if options.json:
        write_json(options.json, rows)


def _measured(name: str, seconds: float) -> list[dict[str, Any]]:
    make, fractions = PROGRAMS[name]
    loss, args = make(lambda layer: layer)
    gradients = {"jax.grad": jax.grad(loss), "dp.grad": dp.grad(loss)}
    if name in INSTEAD:
        label, make_instead = INSTEAD[name]
        instead, _ = make_instead()
        gradients |= {f"jax.grad, {label}": jax.grad(instead), f"dp.grad, {label}": dp.grad(instead)}
    programs, rows = {}, []
    for label, gradient in gradients.items():
        programs[label], row = _compiled(gradient, args)
        rows.append({"program": name, "gradient": label} | row)
    held = rows[0]["bytes"]
    for fraction in fractions:
        label = f"dp.grad, memory={fraction:g} of JAX's"
        try:
            programs[label], row = _compiled(dp.grad(loss, memory=int(fraction * held)), args)
        except ValueError as refused:
            print(f"{name + ': ' + label:<36} {refused}")
            continue
        rows.append({"program": name, "gradient": label, "budget": int(fraction * held)} | row)
    expected = programs["jax.grad"](*args)
    times = alternate({label: clock(program, *args) for label, program in programs.items()}, seconds)
    for row in rows:
        label = row["gradient"]
        row |= {"seconds": times[label], "error": _error(programs[label](*args), expected)}
        print(
            f"{name + ': ' + label:<36} {row['bytes'] / MB:>8.1f} {row['bytes'] / held:>7.3f} "
            f"{times[label] / times['jax.grad']:>11.2f} {row['tracing']:>8.1f}s {row['compiling']:>9.1f}s "
            f"{row['error']:>8.1e}",
            flush=True,
        )
    return rows


def _compiled(gradient, args):
    start = time.perf_counter()
    lowered = jax.jit(gradient).lower(*args)
    after = time.perf_counter()
    program = lowered.compile()
    row = {"tracing": after - start, "compiling": time.perf_counter() - after}
    return program, row | {"bytes": program.memory_analysis().temp_size_in_bytes}


def _error(ours, theirs) -> float:
    total = lambda tree: float(
        np.sqrt(sum(np.sum(np.square(np.asarray(x, np.float64))) for x in jax.tree.leaves(tree)))
    )
    return total(jax.tree.map(lambda a, b: np.asarray(a, np.float64) - b, ours, theirs)) / total(theirs)


if __name__ == "__main__":
    main()
