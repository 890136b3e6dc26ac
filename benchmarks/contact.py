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
        times, compiled = _trace_and_compile(functions, flat, options.rounds)
        row = {"solver": solver} | times
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


def _trace_and_compile(functions, x, rounds: int) -> tuple[dict, dict]:
    """Trace and compile functions in turn from cleared caches, after one round that is not counted.

    Returns:
      Their median seconds, of "tracing" and "compiling", and the compiled programs.
    """
    times: dict = {what: {name: [] for name in functions} for what in ("tracing", "compiling")}
    programs = {}
    for i in range(rounds + 1):
        for name in functions if i % 2 else reversed(functions):
            function = functions[name]
            jax.clear_caches()
            start = time.perf_counter()
            traced = jax.jit(lambda x, function=function: function(x)).trace(x)
            tracing = time.perf_counter() - start
            lowered = traced.lower()
            start = time.perf_counter()
            programs[name] = lowered.compile()
            if i:
                times["tracing"][name].append(tracing)
                times["compiling"][name].append(time.perf_counter() - start)
    medians = {what: {name: median(seconds) for name, seconds in by_name.items()} for what, by_name in times.items()}
    return medians, programs


if __name__ == "__main__":
    main()
