"""Value and gradient by diffprog and by JAX, side by side: `python -m benchmarks.gradients [--json FILE]`.

Per workload the ratio ours / JAX's of the compiled run time, of an eager run (op by op), of tracing and lowering
(caches empty), of compiling, and of the temporary memory of the compiled program; then their geometric means, the
cost of ten times the work, and of `import diffprog`. A figure above its target is marked with `!`.
"""

import argparse
import math
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import jax
import numpy as np

import diffprog as dp
from benchmarks.timing import alternate, clock, write_json
from benchmarks.workloads import GROWTH, WORKLOADS

ENGINES = {"diffprog": dp.value_and_grad, "jax": jax.value_and_grad}

# Largest ratio allowed: (each workload, geometric mean).
TARGETS = {"compiled": (1.10, 0.85), "eager": (1.0, 0.5), "tracing": (1.0, 0.7), "memory": (1.05, 1.0)}
DEPTHWISE = ("efficientnet-lite0", "compiled", 0.45)
GROWTH_TARGET, IMPORT_TARGET = 12.0, 0.15


def traced(transform, fun, args):
    """Make a run that traces and lowers with empty caches, as the first call of a program does."""

    def run():
        jax.clear_caches()
        start = time.perf_counter()
        jax.jit(lambda *args: transform(fun)(*args)).trace(*args).lower()
        return time.perf_counter() - start

    return run


def build(transform, fun, args):
    """Compile; return the seconds and the program."""
    lowered = jax.jit(lambda *args: transform(fun)(*args)).lower(*args)
    start = time.perf_counter()
    program = lowered.compile()
    return time.perf_counter() - start, program


def ratio(runs: dict, seconds: float, **options) -> tuple[float, float]:
    """Time both engines; return the ratio ours / JAX's and our milliseconds."""
    times = alternate(runs, seconds, **options)
    return times["diffprog"] / times["jax"], 1000 * times["diffprog"]


def temporary_bytes(program) -> int:
    return program.memory_analysis().temp_size_in_bytes


def measure(name, make, seconds) -> dict:
    """Measure the ratios of a workload."""
    fun, args = make(np.random.default_rng(0))
    row: dict = {"workload": name}
    eager = {engine: clock(transform(fun), *args) for engine, transform in ENGINES.items()}
    row["eager"], row["eager_ms"] = ratio(eager, seconds, min_rounds=3)
    compiled = {engine: build(transform, fun, args) for engine, transform in ENGINES.items()}
    row["compiling"] = compiled["diffprog"][0] / compiled["jax"][0]
    programs = {engine: program for engine, (_, program) in compiled.items()}
    row["compiled"], row["compiled_ms"] = ratio(
        {e: clock(p, *args) for e, p in programs.items()}, seconds, min_rounds=10
    )
    ours, theirs = map(temporary_bytes, programs.values())
    row["memory"] = ours / theirs if theirs else (1.0 if not ours else math.inf)
    row["memory_bytes"] = ours
    tracing = {engine: traced(transform, fun, args) for engine, transform in ENGINES.items()}
    row["tracing"], row["tracing_ms"] = ratio(tracing, seconds, min_rounds=3)
    return row


def growth(make, stages, seconds) -> dict:
    """Measure how many times longer ten times the work takes, by stage."""
    transform = ENGINES["diffprog"]
    cases = {str(work): make(np.random.default_rng(0), work) for work in (1, 10)}
    runs = {
        "eager": lambda fun, args: clock(transform(fun), *args),
        "tracing": lambda fun, args: traced(transform, fun, args),
        "compiled": lambda fun, args: clock(build(transform, fun, args)[1], *args),
    }
    ratios = {}
    for stage in stages:
        times = alternate({work: runs[stage](*case) for work, case in cases.items()}, seconds, min_rounds=3)
        ratios[stage] = times["10"] / times["1"]
    return ratios


def import_seconds(rounds: int) -> float:
    """Measure the seconds that `import diffprog` takes on top of `import jax`, in fresh processes."""

    def seconds(module):
        code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    return median(seconds("diffprog") - seconds("jax") for _ in range(rounds))


def mark(value, target, digits=2) -> str:
    return f"{value:.{digits}f}{'!' if target is not None and value > target else ' '}"


def target_of(workload, kind) -> float | None:
    if (workload, kind) == DEPTHWISE[:2] and jax.default_backend() == "cpu":
        return DEPTHWISE[2]
    return TARGETS[kind][0] if kind in TARGETS else None


def print_row(row):
    cells = [mark(row[kind], target_of(row["workload"], kind)) for kind in (*TARGETS, "compiling")]
    print(
        f"{row['workload']:<22}"
        + "".join(f"{cell:>11}" for cell in cells)
        + f"{row['compiled_ms']:>13.3f}{row['eager_ms']:>11.1f}{row['tracing_ms']:>12.1f}",
        flush=True,
    )


def geometric_mean(values) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help=f"which of {', '.join(WORKLOADS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=4.0, help="time for each measurement (default %(default)s)")
    parser.add_argument("--no-growth", action="store_true", help="leave out the tenfold work and the import")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    for name in options.workloads:
        if name not in WORKLOADS:
            parser.error(f"there is no workload {name!r}: choose from {', '.join(WORKLOADS)}")

    print(f"JAX {jax.__version__} on {jax.devices()[0].device_kind}; ours / JAX's")
    headings = [*TARGETS, "compiling"]
    print(
        f"{'workload':<22}"
        + "".join(f"{h + ' ':>11}" for h in headings)
        + f"{'compiled ms':>13}{'eager ms':>11}{'tracing ms':>12}"
    )
    rows = []
    for name in options.workloads or WORKLOADS:
        rows.append(measure(name, WORKLOADS[name], options.seconds))
        print_row(rows[-1])
    means = {kind: geometric_mean([row[kind] for row in rows if row[kind] > 0]) for kind in TARGETS}
    print(f"{'geometric mean':<22}" + "".join(f"{mark(means[kind], TARGETS[kind][1]):>11}" for kind in TARGETS))
    rows.append({"workload": "geometric mean", **means})

    if not options.no_growth:
        print("\ntime of ten times the work, over that of one")
        for name, (make, stages) in GROWTH.items():
            ratios = growth(make, stages, options.seconds)
            rows.append({"growth": name, **ratios})
            print(f"  {name:<14}" + "".join(f"  {kind} {mark(x, GROWTH_TARGET, 1)}" for kind, x in ratios.items()))
        extra = import_seconds(5)
        rows.append({"import_seconds": extra})
        print(f"\nimport diffprog takes {mark(extra, IMPORT_TARGET)}s longer than import jax")
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
