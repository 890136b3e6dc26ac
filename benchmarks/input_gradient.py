"""One gradient step with respect to an image, three ways: `python -m benchmarks.input_gradient [--json FILE]`.

    native     jax.value_and_grad on EfficientNet-Lite0 written with `conv_general_dilated` throughout
    diffprog   our tracer on our form of the network (depthwise convolutions as shifted sums)
    jax        jax.value_and_grad on our form of the network

Each is compiled once (timed apart) and then the three take turns, so that a change in the machine's load meets all of
them; medians are reported.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks.timing import alternate, clock, write_json
from diffprog import models
from diffprog.optimize import value_and_grad

LABEL = "ostrich"
CONTENDERS = {"native": ("native", "jax"), "diffprog": ("fast", "diffprog"), "jax": ("fast", "jax")}


def compiled_step(convolution, engine, size):
    """(seconds to trace and compile, step) where step() gives the logit and its gradient for one image."""
    model = models.load("efficientnet_lite0", convolution=convolution)
    label = model.label_index(LABEL)
    logit = lambda image, parameters: model.apply(parameters, image)[0, label]
    image = jax.random.uniform(jax.random.key(0), (1, size, size, 3), jnp.float32)
    start = time.perf_counter()
    compiled = jax.jit(value_and_grad(engine)(logit)).lower(image, model.parameters).compile()
    seconds = time.perf_counter() - start
    return seconds, lambda: compiled(image, model.parameters)


def measure(size, rounds):
    """One row per contender: compile seconds, milliseconds per step, ratio to the native network's."""
    compiled = {name: compiled_step(*how, size) for name, how in CONTENDERS.items()}
    seconds = alternate({name: clock(step) for name, (_, step) in compiled.items()}, 0, min_rounds=rounds)
    return [
        {
            "size": size,
            "name": name,
            "compile_s": round(compiled[name][0], 2),
            "step_ms": round(1000 * seconds[name], 2),
            "ratio_to_native": round(seconds[name] / seconds["native"], 4),
        }
        for name in CONTENDERS
    ]


def main():
    parser = argparse.ArgumentParser(description="Time one gradient step with respect to an image, three ways.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 128], help="image sides in pixels (224 128)")
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each (15)")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    arguments = parser.parse_args()
    rows = []
    print(f"{'pixels':>6}  {'contender':<9}  {'compile s':>9}  {'step ms':>8}  {'of native':>9}")
    for size in arguments.sizes:
        for row in measure(size, arguments.rounds):
            rows.append(row)
            print(
                f"{row['size']:>6}  {row['name']:<9}  {row['compile_s']:>9.2f}  {row['step_ms']:>8.2f}"
                f"  {row['ratio_to_native']:>9.3f}"
            )
    if arguments.json:
        write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
