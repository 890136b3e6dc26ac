"""Minimize a function by many optimizers side by side, count what each asks of it, and show why it works.

    %(prog)s
    %(prog)s rosenbrock --optimizer lbfgs trust_region cma_es
    %(prog)s thurber
    %(prog)s --function mypackage.mymodule:make --bounds -2 5 --max-steps 500
    %(prog)s --list

Without a name, six well-known functions of two numbers are explained on one page. A name is that of a test function,
which `--list` shows. One of NIST's regressions is fitted from both of its starts, and what is found stands beside the
certified parameters and standard errors.

A function of yours takes no argument and returns (function, arguments): the function to minimize, which returns a
scalar, and a tuple with where to begin, an array or a pytree. (For several arguments all are optimized.)

A table is printed; optimize.png has values against evaluations, and paths if there are two numbers; then there is
optimize.html as well, to play with: drag the start, choose step size and momentum on the map of exact rates.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from diffprog import optimize
from diffprog._util.files import check_writable
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
from diffprog.optimize._page.objectives import BUILT_IN
from diffprog.optimize._search.flat import flatten
from diffprog.optimize._search.problem import prepare

MAX_STEPS = 200


class Task(NamedTuple):
    """A function to minimize, and where to begin."""

    title: str
    function: Callable[[Any], Any]
    start: Any


def main(arguments: Sequence[str] | None = None, prog: str = "diffprog optimize") -> None:
    """Run the command."""
    parser = command_parser(prog, __doc__)
    parser.add_argument("problem", nargs="?", metavar="NAME", help="a test function (see --list)")
    parser.add_argument("--function", metavar="MODULE:NAME", help="minimize this function instead")
    parser.add_argument("--list", action="store_true", help="list the names of problems and optimizers, and end")
    parser.add_argument(
        "--optimizer", nargs="+", metavar="NAME", help="which optimizers (default: one or two of each family)"
    )
    parser.add_argument(
        "--start", nargs="+", type=float, metavar="X", help="numbers to begin with, in place of its own"
    )
    parser.add_argument("--bounds", nargs=2, type=float, metavar=("LOW", "HIGH"), help="box for every number")
    parser.add_argument("--max-steps", type=positive, default=MAX_STEPS, help="steps of each optimizer (default: 200)")
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
        elif name := {name.lower(): name for name in problems.NIST_NAMES}.get((options.problem or "").lower()):
            _refuse(options, "start", "bounds", "optimizer")
            print(_fit_nist(name, options))
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


def _problem(name: str) -> Task:
    for objective in BUILT_IN:
        if objective.name == name:
            return Task(objective.title, objective.function, jnp.asarray(objective.start))
    for problem in (*problems.FUNCTIONS.values(), *problems.MORE_GARBOW_HILLSTROM):
        if _plain(name) == _plain(_short_name(problem)):
            return Task(problem.name, problem.function, jnp.asarray(problem.starts[0]))
    raise ValueError(f"there is no problem {name!r}: `--list` shows the names")


def _short_name(problem: problems.Problem) -> str:
    """Take a problem's name without the number that its collection gives it: "brown-dennis"."""
    number, _, rest = problem.name.partition(" ")
    words = (rest if number.isdecimal() else problem.name).lower().replace("'", "").replace(",", "").replace(".", "")
    return words.replace(" ", "-")


def _fit_nist(name: str, options: argparse.Namespace) -> str:
    """Fit a regression of NIST's from its starts, and write what is found beside what is certified."""
    problem = problems.nist(name)
    settings = dict(max_steps=None if options.max_steps == MAX_STEPS else options.max_steps, engine=options.engine)
    parts = [f"{problem.name}, a regression of NIST's, {len(problem.starts[0])} parameters"]
    for number, start in enumerate(problem.starts, 1):
        found = optimize.least_squares(cast(Callable, problem.residuals), jnp.asarray(start), **settings)
        certainty = np.asarray(problem.standard_errors)
        columns = (found.parameters, problem.minimizers[0], found.standard_errors, certainty)
        rows = [["", "found", "certified", "standard error", "certified", "digits"]]
        for i, (value, certified, error, known) in enumerate(zip(*columns, strict=True), 1):
            digits = min(11.0, -np.log10(max(abs(float(value) / certified - 1), 1e-11)))
            rows.append([f"b{i}", *(f"{float(x):.9g}" for x in (value, certified, error, known)), f"{digits:.1f}"])
        asked = ", ".join(f"{question} {count}" for question, count in found.evaluations.items() if count)
        parts.append(f"from start {number}: {found.reason}; {asked}\n" + "\n".join(text_table(rows, "<>")))
    return "\n\n".join(parts)


def _names() -> str:
    lists = {
        "functions of two numbers": [objective.name for objective in BUILT_IN],
        "more functions": [_short_name(x) for x in (*problems.FUNCTIONS.values(), *problems.MORE_GARBOW_HILLSTROM)],
        "regressions of NIST's": [name.lower() for name in problems.NIST_NAMES],
        "optimizers": known_optimizers(),
    }
    return "\n".join(f"{title}: {', '.join(dict.fromkeys(names))}" for title, names in lists.items())


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
