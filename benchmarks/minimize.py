"""Our Newton and quasi-Newton methods beside SciPy's on 27 functions: `python -m benchmarks.minimize [--json FILE]`.

The problems of More, Garbow & Hillstrom in float64, exact derivatives for all. Solved is f <= f* + 1e-10 (f0 - f*), or
f* to five digits where the literature knows no more. SciPy's second-order methods end at gradients of 1e-8. Printed:
problems solved, values, gradients and products with the Hessian asked (a whole Hessian is n of them), the values
without problem 4, on which SciPy's largest trust radius of 1000 costs it a thousand, and the values until a problem is
solved, over the problems that L-BFGS-B solves in SciPy. Counts do not depend on the machine.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize as scipy_optimize

from benchmarks.timing import write_json
from diffprog.optimize import lbfgs, lbfgsb, minimize, newton_cg, trust_region
from diffprog.optimize.problems import MORE_GARBOW_HILLSTROM

OURS = {
    "trust_region(exact)": trust_region(solver="exact"),
    "trust_region(cg)": trust_region(solver="cg"),
    "newton_cg": newton_cg(),
    "lbfgs": lbfgs(),
    "lbfgsb": lbfgsb(),
}
SCIPYS = {
    "SciPy trust-exact": ("trust-exact", dict(gtol=1e-8, maxiter=5000)),
    "SciPy trust-ncg": ("trust-ncg", dict(gtol=1e-8, maxiter=5000)),
    "SciPy Newton-CG": ("Newton-CG", dict(xtol=1e-10, maxiter=2000)),
    "SciPy L-BFGS-B": ("L-BFGS-B", dict(ftol=2.2e-16, gtol=1e-10, maxiter=5000, maxfun=5000)),
}


def limits(problem):
    """Values at which the problem counts as solved, one for each known minimum."""
    known = np.array(problem.values)
    first = float(problem.function(jnp.array(problem.starts[0])))
    return known + 1e-10 * (first - known) + 1e-5 * np.abs(known)


def until_solved(problem, values, asked):
    """How much was asked until the minimum that the search ends at was reached; None if it ends at none."""
    met = [limit for limit in limits(problem) if min(values) <= limit]
    return next(count for value, count in zip(values, asked, strict=True) if value <= min(met)) if met else None


def ours(problem, optimizer):
    found = minimize(problem.function, jnp.array(problem.starts[0]), optimizer)
    asked = found.evaluations
    values, counts = zip(*((row["value"], row["function"]) for row in found.history), strict=True)
    solved = until_solved(problem, values, counts)
    return solved, float(found.value), asked["function"], asked["gradient"], asked["hessian_vector"]


def scipys(problem, method, options, derivatives):
    value, gradient, hessian, product = derivatives
    products, values = [0], []

    def multiply(x, vector):
        products[0] += 1
        return np.asarray(product(x, vector))

    second = {}
    if method == "trust-exact":
        second = dict(hess=lambda x: np.asarray(hessian(x)))
    elif method != "L-BFGS-B":
        second = dict(hessp=multiply)
    with np.errstate(all="ignore"):
        found = scipy_optimize.minimize(
            lambda x: values.append(float(value(x))) or values[-1],
            problem.starts[0],
            jac=lambda x: np.asarray(gradient(x)),
            method=method,
            options=options,
            **second,
        )
    if method == "trust-exact":
        products[0] = found.nhev * len(problem.starts[0])
    solved = until_solved(problem, values, range(1, len(values) + 1))
    return solved, float(found.fun), found.nfev, found.njev, products[0]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", nargs="+", type=int, help="numbers in the paper; all by default")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    chosen = [p for p in MORE_GARBOW_HILLSTROM if not options.problems or int(p.name.split()[0]) in options.problems]
    rows = []
    with jax.enable_x64(True):
        for problem in chosen:
            gradient = jax.grad(problem.function)
            derivatives = (
                jax.jit(problem.function),
                jax.jit(gradient),
                jax.jit(jax.hessian(problem.function)),
                jax.jit(lambda x, v, gradient=gradient: jax.jvp(gradient, (x,), (v,))[1]),
            )
            results = {name: ours(problem, optimizer) for name, optimizer in OURS.items()}
            results |= {name: scipys(problem, *how, derivatives) for name, how in SCIPYS.items()}
            for name, (solved, value, *asked) in results.items():
                counts = dict(zip(("values", "gradients", "products"), map(int, asked), strict=True))
                rows.append(
                    dict(
                        problem=problem.name,
                        method=name,
                        solved=solved is not None,
                        until=solved,
                        value=value,
                        **counts,
                    )
                )
    report(rows, len(chosen))
    if options.json:
        write_json(options.json, rows)


def report(rows, number):
    heads = f"{'values':>9}{'gradients':>11}{'products':>10}{'without 4':>11}{'until solved':>14}"
    print(f"{'':22}{'solved of ' + str(number):>14}{heads}   missed")
    shared = {row["problem"] for row in rows if row["method"] == "SciPy L-BFGS-B" and row["solved"]}
    for method in [*OURS, *SCIPYS]:
        own = [row for row in rows if row["method"] == method]
        totals = [sum(row[name] for row in own) for name in ("values", "gradients", "products")]
        rest = sum(row["values"] for row in own if not row["problem"].startswith("4 "))
        until = sum(row["until"] or 0 for row in own if row["problem"] in shared)
        missed = [row["problem"] for row in own if not row["solved"]]
        print(
            f"{method:22}{number - len(missed):>14}{totals[0]:>9}{totals[1]:>11}{totals[2]:>10}{rest:>11}{until:>14}   "
            f"{', '.join(missed)}"
        )


if __name__ == "__main__":
    main()
