"""Compiled `dp.grad_at` beside what one writes by hand: `python -m benchmarks.grad_at [--json FILE]`.

    by hand    jax.grad with respect to zeros that the edited source adds to the values
    grad_at    dp.grad_at on the source as it is, with taps

Each is compiled once (timed apart) and then the two take turns; medians are reported. Both give the same numbers, which
is checked.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import diffprog as dp
from benchmarks.timing import alternate, clock, write_json
from diffprog import models
from diffprog.models._efficientnet import BLOCKS, CONVOLUTIONS, relu6


def _normal(rng, *shape):
    return jnp.asarray(rng.standard_normal(shape) / np.sqrt(max(shape[0], 1)), jnp.float32)


# Each: random generator -> (program, its arguments, zeros). In program(at, *arguments, zeros), at(value, name, zeros)
# stands at the selected values.


def mlp(rng):
    """Four layers of 512, at the second."""
    weights = [_normal(rng, 512, 512) for _ in range(4)]

    def program(at, weights, x, zeros):
        for i, w in enumerate(weights):
            x = jax.nn.relu(x @ w)
            x = at(x, "hidden", zeros) if i == 1 else x
        return jnp.sum(x**2)

    return program, (weights, _normal(rng, 256, 512)), jnp.zeros((256, 512))


def recurrent(rng):
    """200 steps by `lax.scan`, at every state."""
    w = _normal(rng, 128, 128)

    def program(at, w, xs, zeros):
        def step(h, x):
            x, zero = x
            h = at(jnp.tanh(h @ w + x), "hidden", zero)
            return h, jnp.sum(h)

        _, ys = lax.scan(step, jnp.zeros((32, 128)), (xs, zeros))
        return jnp.sum(ys**2)

    return program, (w, _normal(rng, 200, 32, 128)), jnp.zeros((200, 32, 128))


def convolutional(rng):
    """Four convolutions with pooling, at the second."""
    kernels = [_normal(rng, 3, 3, 3, 32)] + [_normal(rng, 3, 3, 32, 32) / 6 for _ in range(3)]

    def program(at, kernels, x, zeros):
        for i, kernel in enumerate(kernels):
            x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.nn.relu(x)
            x = at(x, "hidden", zeros) if i == 1 else x
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
        return jnp.sum(x**2)

    return program, (kernels, _normal(rng, 8, 64, 64, 3)), jnp.zeros((8, 32, 32, 32))


def efficientnet_lite0(rng):
    """A logit of the pretrained network at 128 px, at the eighth block."""
    convolve = CONVOLUTIONS["fast"]

    def program(at, parameters, image, zeros):
        x = relu6(convolve.dense((255 * image - 127) / 128, parameters["stem"], 2))
        for index, (block, weights) in enumerate(zip(BLOCKS, parameters["blocks"], strict=True)):
            start = x
            x = relu6(convolve.pointwise(x, weights["expand"])) if block.expansion > 1 else x
            x = relu6(convolve.depthwise(x, weights["depthwise"], block.stride))
            x = convolve.pointwise(x, weights["project"])
            x = x + start if block.skips else x
            x = at(x, "hidden", zeros) if index == 8 else x
        x = relu6(convolve.pointwise(x, parameters["head"])).mean(axis=(1, 2))
        return (x @ parameters["logits"]["kernel"] + parameters["logits"]["bias"])[0, 9]

    image = jnp.asarray(rng.random((1, 128, 128, 3)), jnp.float32)
    return program, (models.load("efficientnet_lite0").parameters, image), jnp.zeros((1, 8, 8, BLOCKS[8].outputs))


NETWORKS = {f.__name__: f for f in (mlp, recurrent, convolutional, efficientnet_lite0)}


def compiled(name):
    """(seconds to compile, function of no arguments to the gradient) by hand and by `grad_at`."""
    program, args, zeros = NETWORKS[name](np.random.default_rng(0))
    by_hand = lambda zeros, *args: program(lambda x, _, zero: x + zero, *args, zeros)
    unused = zeros if name == "recurrent" else None  # the edited scan takes them along
    tapped = lambda *args: program(lambda x, name, _: dp.tap(x, name), *args, unused)
    ways = {
        "by hand": (jax.grad(by_hand), (zeros, *args)),
        "grad_at": (lambda *args: dp.grad_at(tapped, ["hidden"])(*args)["hidden"], args),
    }
    found = {}
    for way, (fun, its_args) in ways.items():
        start = time.perf_counter()
        run = jax.jit(fun).lower(*its_args).compile()
        found[way] = time.perf_counter() - start, clock(run, *its_args), run(*its_args)
    return found


def measure(name, seconds):
    found = compiled(name)
    results = [np.asarray(result) for _, _, result in found.values()]
    scale = np.abs(results[0]).max()
    if not scale or np.abs(results[0] - results[1]).max() > 1e-4 * scale:
        raise AssertionError(f"the two gradients of {name} differ")
    times = alternate({way: run for way, (_, run, _) in found.items()}, seconds, min_rounds=15)
    return [
        {
            "network": name,
            "way": way,
            "compile_s": round(found[way][0], 2),
            "step_ms": round(1000 * times[way], 3),
            "ratio_to_by_hand": round(times[way] / times["by hand"], 4),
        }
        for way in found
    ]


def main():
    parser = argparse.ArgumentParser(description="Time compiled dp.grad_at beside zeros added by hand.")
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help=f"which ones ({', '.join(NETWORKS)})")
    parser.add_argument("--seconds", type=float, default=20, help="about how long to time each (20)")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    arguments = parser.parse_args()
    unknown = set(arguments.networks) - set(NETWORKS)
    if unknown:
        parser.error(f"no network is called {sorted(unknown)[0]!r}; there are {', '.join(NETWORKS)}")
    rows = []
    print(f"{'network':<20}  {'way':<8}  {'compile s':>9}  {'step ms':>8}  {'of by hand':>10}")
    for name in arguments.networks:
        for row in measure(name, arguments.seconds):
            rows.append(row)
            print(
                f"{row['network']:<20}  {row['way']:<8}  {row['compile_s']:>9.2f}  {row['step_ms']:>8.3f}"
                f"  {row['ratio_to_by_hand']:>10.3f}"
            )
    if arguments.json:
        write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
