"""Our CMA-ES beside pycma's: `python -m benchmarks.black_box [--seeds 25] [--sizes 2 5 10 20] [--json FILE]`.

Evaluations to 1e-9 in float64, with the default population of both and the same start and sigma: the medians over the
seeds, their ratio, and how many runs got there. An ellipsoid that is rotated tells whether correlations are learned.
Counts do not depend on the machine. pycma is asked not to end before: its tolerances are 0.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import write_json
from diffprog.optimize import cma_es, minimize

TARGET = 1e-9


def problems(size):
    """Name, function, start and first sigma."""
    scales = 10.0 ** (6 * np.arange(size) / (size - 1))
    turn = np.linalg.qr(np.random.default_rng(size).normal(size=(size, size)))[0]
    far = np.full(size, 3.0)
    return [
        ("sphere", lambda x: x @ x, far, 1.0),
        ("ellipsoid", lambda x: scales @ x**2, far, 1.0),
        ("rotated ellipsoid", lambda x: scales @ (turn @ x) ** 2, far, 1.0),
        ("Rosenbrock", lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum(), np.zeros(size), 0.5),
    ]


def ours(function, start, sigma, seed):
    found = minimize(function, jnp.asarray(start), cma_es(sigma=sigma), key=seed)
    return next((row["function"] for row in found.history if row["value"] <= TARGET), np.inf)


def pycmas(function, start, sigma, seed):
    import cma

    options = {"seed": seed + 1, "verbose": -9, "ftarget": TARGET, "maxfevals": 1e6}
    options |= {"tolfun": 0, "tolfunhist": 0, "tolx": 0}
    result = cma.CMAEvolutionStrategy(start, sigma, options).optimize(lambda x: float(function(x))).result
    return result.evaluations if result.fbest <= TARGET else np.inf


def measure(size, name, function, start, sigma, seeds):
    counts = {
        label: np.array([method(function, start, sigma, seed) for seed in range(seeds)])
        for label, method in (("ours", ours), ("pycma", pycmas))
    }
    medians = {label: float(np.median(each)) for label, each in counts.items()}
    reached = {f"{label} reached": int(np.isfinite(each).sum()) for label, each in counts.items()}
    return {"problem": name, "n": size, **medians, "ratio": medians["ours"] / medians["pycma"], **reached}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=25, help="runs of each")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 5, 10, 20], help="numbers of parameters")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(f"{'problem':<18}{'n':>4}{'ours':>9}{'pycma':>9}{'ratio':>8}  reached")
    rows = []
    for size in options.sizes:
        for problem in problems(size):
            row = measure(size, *problem, options.seeds)
            rows.append(row)
            reached = f"{row['ours reached']} {row['pycma reached']} of {options.seeds}"
            print(
                f"{row['problem']:<18}{size:>4}{row['ours']:>9.0f}{row['pycma']:>9.0f}{row['ratio']:>8.3f}  {reached}"
            )
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
