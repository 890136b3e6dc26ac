"""Our Levenberg-Marquardt beside SciPy's and optimistix' on NIST's regressions: `python -m benchmarks.least_squares`.

27 data sets from both starts in float64; solved is LRE >= 6, that is six certified digits of every parameter. SciPy
gets exact Jacobians, scales by them, and ends at 1e-15; `--json FILE` writes the rows. Counts do not depend on the
machine. Ours are also printed with the second derivatives along a step, of which SciPy has none.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize as scipy_optimize

from benchmarks.timing import write_json
from diffprog.optimize import gauss_newton, least_squares, levenberg_marquardt
from diffprog.optimize.problems import NIST_NAMES, nist

MAX_EVALUATIONS = 2000
DIGITS = 6


def lre(found, certified):
    """Digits that agree, of the parameter that agrees least; 11 at most."""
    with np.errstate(all="ignore"):
        part = np.abs(np.asarray(found) - certified) / np.abs(certified)
        return float(np.nan_to_num(np.min(-np.log10(np.maximum(part, 1e-11))), nan=-9.0))


def ours(method):
    def run(problem, start):
        found = least_squares(problem.residuals, jnp.array(start), method)
        asked = found.evaluations
        errors = lre(found.standard_errors, problem.standard_errors)
        return found.parameters, asked["function"], asked["hessian_vector"], errors

    return run


def scipy(method):
    def run(problem, start):
        residuals, jacobian = jax.jit(problem.residuals), jax.jit(jax.jacfwd(problem.residuals))
        tight = dict(ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=MAX_EVALUATIONS, x_scale="jac", method=method)
        try:
            with np.errstate(all="ignore"):
                found = scipy_optimize.least_squares(
                    lambda x: np.asarray(residuals(x)), start, jac=lambda x: np.asarray(jacobian(x)), **tight
                )
        except (ValueError, np.linalg.LinAlgError):  # its residuals became infinite
            return start, 0, 0, -9.0
        return found.x, found.nfev, 0, -9.0

    return run


def optimistix():
    """None if it is not installed."""
    try:
        import optimistix as peer
    except ImportError:
        return None

    def run(problem, start):
        solver = peer.LevenbergMarquardt(rtol=1e-12, atol=1e-12)
        found = peer.least_squares(
            lambda x, _: problem.residuals(x), solver, jnp.array(start), max_steps=MAX_EVALUATIONS, throw=False
        )
        return found.value, int(found.stats["num_steps"]), 0, -9.0

    return run


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=NIST_NAMES, choices=NIST_NAMES)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    solvers = {
        "levenberg_marquardt": ours(levenberg_marquardt()),
        "without acceleration": ours(levenberg_marquardt(acceleration=False)),
        "gauss_newton": ours(gauss_newton()),
        "SciPy lm": scipy("lm"),
        "SciPy trf": scipy("trf"),
        "optimistix LM": optimistix(),
    }
    solvers = {name: run for name, run in solvers.items() if run is not None}
    rows = []
    with jax.enable_x64(True):
        for name in options.sets:
            problem = nist(name)
            for number, start in enumerate(problem.starts, start=1):
                for solver, run in solvers.items():
                    found, evaluations, second, errors = run(problem, start)
                    digits = lre(found, problem.minimizers[0])
                    rows.append(
                        dict(
                            run=f"{name}/{number}",
                            solver=solver,
                            digits=digits,
                            error_digits=errors,
                            evaluations=evaluations,
                            second_derivatives=second,
                        )
                    )
    report(rows, solvers)
    if options.json:
        write_json(options.json, rows)


def report(rows, solvers):
    of = {(row["run"], row["solver"]): row for row in rows}
    runs = list(dict.fromkeys(row["run"] for row in rows))
    print(f"{'':22}{'solved of ' + str(len(runs)):>14}{'evaluations':>14}   missed")
    for solver in solvers:
        missed = [run for run in runs if of[run, solver]["digits"] < DIGITS]
        total = sum(of[run, solver]["evaluations"] for run in runs if run not in missed)
        print(f"{solver:22}{len(runs) - len(missed):>14}{total:>14}   {' '.join(missed)}")
    mine, second, theirs = 0, 0, 0
    for run in runs:
        best = [of[run, s] for s in ("SciPy lm", "SciPy trf") if of[run, s]["digits"] >= DIGITS]
        own = of[run, "levenberg_marquardt"]
        if best and own["digits"] >= DIGITS:
            mine, second = mine + own["evaluations"], second + own["second_derivatives"]
            theirs += min(row["evaluations"] for row in best)
    parts = [count / max(theirs, 1) for count in (mine, mine + second)]
    print(f"where SciPy solves too, its better method of each run: {theirs} evaluations")
    print(f"ours: {mine} ({parts[0]:.2f}); with {second} second derivatives along a step {parts[1]:.2f}")
    errors = [row for row in rows if row["solver"] == "levenberg_marquardt"]
    poor = [f"{row['run']} ({row['error_digits']:.1f})" for row in errors if row["error_digits"] < 4]
    print(f"standard errors to 4 digits: {len(errors) - len(poor)} of {len(errors)}; not: {', '.join(poor) or 'none'}")


if __name__ == "__main__":
    main()
