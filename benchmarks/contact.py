"""The gradient of a rollout with contact in MuJoCo MJX beside the rollout itself: tracing, compiling and running.

`jax.grad` refuses it: the contact solver is a while loop. Takes the extra `libraries`.

python -m benchmarks.contact [--seconds S] [--json FILE]
"""

import argparse
import time
from pathlib import Path
from statistics import median

import jax
from jax.flatten_util import ravel_pytree

import diffprog as dp
from benchmarks.timing import alternate, clock, write_json
from tests.libraries.mjx_programs import STATE, rollout

SOLVERS = {"Newton": 5, "CG": 30}  # the largest number of iterations


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="how long each pair is run")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is traced and compiled")
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    rows = []
    print(
        f"{'solver':<8} {'tracing':>18} {'compiling':>18} {'running':>18}   gradient / rollout (seconds of the rollout)"
    )
    for solver, iterations in SOLVERS.items():
        score, (flat, unravel) = rollout(solver, iterations), ravel_pytree(STATE)
        functions = {"rollout": lambda x: score(unravel(x)), "gradient": dp.grad(lambda x: score(unravel(x)))}
        row = {"solver": solver}
        measured = {name: _trace_and_compile(function, flat, options.rounds) for name, function in functions.items()}
        for i, what in enumerate(("tracing", "compiling")):
            row[what] = {name: times[i] for name, times in measured.items()}
        compiled = {name: times[2] for name, times in measured.items()}
        row["running"] = alternate({name: clock(program, flat) for name, program in compiled.items()}, options.seconds)
        cells = [
            f"{row[what]['gradient'] / row[what]['rollout']:.2f} ({row[what]['rollout']:.2g})"
            for what in row
            if what != "solver"
        ]
        print(f"{solver:<8} " + " ".join(f"{cell:>18}" for cell in cells), flush=True)
        rows.append(row)
    if options.json:
        write_json(options.json, rows)


def _trace_and_compile(function, x, rounds: int):
    """Find the median seconds of tracing and compiling from cleared caches, and the compiled program."""
    times = []
    for _ in range(rounds):
        jax.clear_caches()
        start = time.perf_counter()
        traced = jax.jit(lambda x: function(x)).trace(x)
        after_tracing = time.perf_counter()
        lowered = traced.lower()
        before_compiling = time.perf_counter()
        program = lowered.compile()
        times.append((after_tracing - start, time.perf_counter() - before_compiling))
    return *(median(column) for column in zip(*times, strict=True)), program


if __name__ == "__main__":
    main()
