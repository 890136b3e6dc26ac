"""Minimize a function by many optimizers side by side, count what each asks of it, and show why it works.

    %(prog)s
    %(prog)s rosenbrock --optimizer lbfgs trust_region cma_es
    %(prog)s Misra1a
    %(prog)s --function mypackage.mymodule:make --bounds -2 5 --max-steps 500
    %(prog)s --list

Without a name, six well-known functions of two numbers are explained on one page. `--list` shows the names: test
functions, the problems of More, Garbow and Hillstrom by their numbers (mgh14), and NIST's data sets for nonlinear
regression. A data set is fitted from both of NIST's starts, and its certified values stand beside those found.

A function of yours takes no argument and returns (function, arguments): the function to minimize, which returns a
scalar, and a tuple with where to begin, an array or a pytree. (For several arguments all are optimized.)

A table is printed; optimize.png has values against evaluations, and paths if there are two numbers; then there is
optimize.html as well, to play with: drag the start, choose step size and momentum on the map of exact rates.
"""

import argparse
import difflib
import textwrap
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog import optimize
from diffprog._util.files import check_writable
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.tables import text_table
from diffprog.cli._command_line import add_engine, command_parser, launch, load_function, positive
from diffprog.images import save_png
from diffprog.optimize import problems
from diffprog.optimize._page.families import (
    Family,
    default_optimizers,
    families_table,
    known_optimizers,
    run_families,
    title_of,
)
from diffprog.optimize._search.flat import flatten
from diffprog.optimize._search.problem import prepare

LEAST_SQUARES: dict[str, Callable[[], Any]] = {
    "levenberg_marquardt": optimize.levenberg_marquardt,
    "gauss_newton": optimize.gauss_newton,
}


class Task(NamedTuple):
    """A function to minimize, and where to begin."""

    title: str
    function: Callable[[Any], Any]
    start: Any


def main(arguments: Sequence[str] | None = None, prog: str = "diffprog optimize") -> None:
    """Run the command."""
    parser = command_parser(prog, __doc__)
    parser.add_argument("problem", nargs="?", metavar="NAME", help="a test function or a data set (see --list)")
    parser.add_argument("--function", metavar="MODULE:NAME", help="minimize this function instead")
    parser.add_argument("--list", action="store_true", help="list the names of problems and optimizers, and end")
    parser.add_argument(
        "--optimizer", nargs="+", metavar="NAME", help="which optimizers (default: one or two of each family)"
    )
    parser.add_argument(
        "--start", nargs="+", type=float, metavar="X", help="numbers to begin with, in place of its own"
    )
    parser.add_argument("--bounds", nargs=2, type=float, metavar=("LOW", "HIGH"), help="box for every number")
    parser.add_argument("--max-steps", type=positive, default=200, help="steps of each optimizer (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="decides what is drawn at random (default: %(default)s)")
    parser.add_argument("--out", default="out/optimize", help="folder for picture and page (default: %(default)s)")
    add_engine(parser)
    launch(parser, run, arguments)


def run(options: argparse.Namespace) -> None:
    """Run the optimizers, print their table, write the picture and the page."""
    if options.list:
        print(_names())
        return
    if options.function and options.problem:
        raise ValueError("give either a name or --function, not both")
    out = check_writable(options.out, "--out")
    # What is known is computed in float64; a function of the user's under the user's own settings.
    with nullcontext() if options.function else jax.enable_x64(True):
        if not options.function and not options.problem:
            _refuse(options, "start", "bounds")
            explanation = optimize.explain(None, None, _chosen(options), **_settings(options))
            print(f"{explanation}\n\nwritten: {explanation.html(out / 'optimize.html')}")
        elif options.problem in problems.NIST_NAMES:
            _regress(options.problem, options, out)
        else:
            _race(_task(options), options, out)


def _race(task: Task, options: argparse.Namespace, out: Path) -> None:
    from diffprog.cli import _pictures as pictures  # Matplotlib, which an extra brings

    start, _ = flatten(task.start)
    if len(start) == 2 and options.bounds is None:
        settings = _settings(options)
        explanation = optimize.explain(
            task.function, task.start, _chosen(options), name=task.title, well_known=False, **settings
        )
        (explained,) = explanation.functions
        print(explanation)
        families, page = explained.families, [explanation.html(out / "optimize.html")]
    else:
        explained, page = None, []
        families = tuple(_families(task, options))
        print(f"{task.title}, {len(start)} number{'s' if len(start) > 1 else ''}\n{families_table(families)}")
    picture = save_png(out / "optimize.png", pictures.optimizer_paths(families, task.title, explained))
    print(f"\nwritten: {', '.join(str(path) for path in [picture, *page])}")


@own_promotion()
def _families(task: Task, options: argparse.Namespace) -> Sequence[Family]:
    bounds = None if options.bounds is None else tuple(options.bounds)
    oracle, start, unflatten = prepare(task.function, task.start, bounds, options.engine, gives_residuals=False)
    optimizers = _chosen(options) or default_optimizers(is_bounded=bounds is not None)
    size = float(max(1.0, np.max(np.abs(np.asarray(start)))))
    key = random_key(options.seed)
    return list(run_families(oracle, start, unflatten, optimizers, size, options.max_steps, key))


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return dict(max_steps=options.max_steps, key=options.seed, engine=options.engine, progress="optimizers")


def _task(options: argparse.Namespace) -> Task:
    if options.function:
        function, arguments = load_function(options.function)
        start = arguments[0] if len(arguments) == 1 else tuple(arguments)
        task = Task(options.function, function if len(arguments) == 1 else lambda start: function(*start), start)
    else:
        task = _problem(options.problem)
    if options.start is None:
        return task
    _, unflatten = flatten(task.start)
    given = jnp.asarray(options.start)
    if len(given) != len(flatten(task.start)[0]):
        raise ValueError(f"--start must be {len(flatten(task.start)[0])} numbers; found {len(given)}")
    return task._replace(start=unflatten(given))


def _functions() -> dict[str, problems.Problem]:
    """List the test functions by the names that the command knows."""
    collection = {f"mgh{problem.name.split()[0]}": problem for problem in reversed(problems.MORE_GARBOW_HILLSTROM)}
    return {
        **{_plain(name): problem for name, problem in problems.FUNCTIONS.items()},
        **dict(reversed(collection.items())),
    }


def _problem(name: str) -> Task:
    functions = _functions()
    if _plain(name) not in functions:
        close = difflib.get_close_matches(name, [*functions, *problems.NIST_NAMES], 1)
        hint = f"did you mean {close[0]}?" if close else "`--list` shows the names"
        raise ValueError(f"there is no problem {name!r}: {hint}")
    problem = functions[_plain(name)]
    return Task(problem.name, own_promotion()(problem.function), jnp.asarray(problem.starts[0]))


def _names() -> str:
    lines = [
        ("functions", list(problems.FUNCTIONS)),
        ("More-Garbow-Hillstrom", [name for name in _functions() if name.startswith("mgh")]),
        ("NIST", list(problems.NIST_NAMES)),
        ("optimizers", list(known_optimizers())),
        ("of data sets", list(LEAST_SQUARES)),
    ]
    return "\n".join(
        textwrap.fill(f"{title}: {', '.join(names)}", 100, subsequent_indent="  ") for title, names in lines
    )


def _regress(name: str, options: argparse.Namespace, out: Path) -> None:
    """Fit one of NIST's data sets from both of its starts, and print what is certified beside what was found."""
    from diffprog.cli import _pictures as pictures  # Matplotlib, which an extra brings

    _refuse(options, "start")
    known = {_plain(title): (title, make) for title, make in LEAST_SQUARES.items()}
    for optimizer in options.optimizer or []:
        if _plain(optimizer) not in known:
            raise ValueError(
                f"there is no optimizer of residuals {optimizer!r}: choose from {', '.join(LEAST_SQUARES)}"
            )
    chosen = [known[_plain(optimizer)] for optimizer in options.optimizer or LEAST_SQUARES]
    problem = problems.nist(name)
    certified, (square_sum,) = problem.minimizers[0], problem.values
    assert problem.residuals is not None
    residuals = own_promotion()(problem.residuals)  # it is no function of the user's
    rows = [["optimizer", "start", "digits", "sum of squares", "steps", "residuals", "Jacobians", "products", "ended"]]
    fits = {}
    for title, make in chosen:
        for number, start in enumerate(problem.starts, 1):
            fitted = optimize.least_squares(
                residuals,
                jnp.asarray(start),
                make(),
                bounds=options.bounds,
                key=options.seed,
                max_steps=options.max_steps,
                engine=options.engine,
            )
            fits[f"{title.replace('_', ' ')}, start {number}"] = fitted
            asked = [str(fitted.evaluations[question]) for question in ("function", "jacobian", "hessian_vector")]
            digits = f"{_digits(np.asarray(fitted.parameters), certified):.1f}"
            row = [title.replace("_", " "), str(number), digits, f"{2 * float(fitted.value):.8g}"]
            rows.append([*row, str(int(fitted.num_steps)), *asked, fitted.reason.partition(", after")[0]])
    best = max(fits.values(), key=lambda fitted: _digits(np.asarray(fitted.parameters), certified))
    print(f"{name}, {len(certified)} parameters, certified sum of squares {square_sum:.10g}")
    print("\n".join(text_table(rows, "<>>>>>>><")))
    print(f"\nthe best of them beside what is certified\n{_certificate(best, problem)}")
    picture = save_png(out / "optimize.png", pictures.regressions(fits, name, square_sum))
    print(f"\nwritten: {picture}")


def _certificate(fitted: optimize.Fitted, problem: problems.Problem) -> str:
    """Write parameters and standard errors beside the certified ones."""
    rows = [["", "found", "certified", "digits", "standard error", "certified", "digits"]]
    columns = (fitted.parameters, problem.minimizers[0], fitted.standard_errors, problem.standard_errors)
    for index, numbers in enumerate(zip(*(np.asarray(column) for column in columns), strict=True), 1):
        value, true, error, true_error = map(float, numbers)
        cells = [f"{value:.10e}", f"{true:.10e}", f"{_digits(value, true):.1f}"]
        cells += [f"{error:.10e}", f"{true_error:.10e}", f"{_digits(error, true_error):.1f}"]
        rows.append([f"b{index}", *cells])
    return "\n".join(text_table(rows, "<>"))


def _digits(found: Any, true: Any) -> float:
    """Count the digits that agree, at most the eleven that are certified; 0 where nothing agrees."""
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = -np.log10(np.abs(found - true) / np.abs(true))
    return float(np.min(np.clip(np.nan_to_num(digits, nan=0.0, posinf=11.0), 0, 11)))


def _chosen(options: argparse.Namespace) -> dict[str, Any] | None:
    """Find optimizers by name, however it is spelled: lbfgs, L-BFGS, trust_region."""
    if options.optimizer is None:
        return None
    known = {_plain(name): (title_of(name), optimizer) for name, optimizer in known_optimizers().items()}
    for name in options.optimizer:
        if _plain(name) not in known:
            raise ValueError(f"there is no optimizer {name!r}: choose from {', '.join(known_optimizers())}")
    return dict(known[_plain(name)] for name in options.optimizer)


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _refuse(options: argparse.Namespace, *names: str) -> None:
    for name in names:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} needs a function: give a name, or --function")
