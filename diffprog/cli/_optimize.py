"""Minimize a function by many optimizers side by side, count what each asks of it, and show why it works.

    %(prog)s
    %(prog)s rosenbrock --optimizer lbfgs trust_region cma_es
    %(prog)s --function mypackage.mymodule:make --bounds -2 5 --max-steps 500
    %(prog)s --list

Without a name, six well-known functions of two numbers are explained on one page. A name is that of a test function,
which `--list` shows.

A function of yours takes no argument and returns (function, arguments): the function to minimize, which returns a
scalar, and a tuple with where to begin, an array or a pytree. (For several arguments all are optimized.)

A table is printed; optimize.png has values against evaluations, and paths if there are two numbers; then there is
optimize.html as well, to play with: drag the start, choose step size and momentum on the map of exact rates.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog import optimize
from diffprog._util.files import check_writable
from diffprog._util.random_keys import random_key
from diffprog.cli._command_line import add_engine, command_parser, launch, load_function, positive
from diffprog.images import save_png
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
    raise ValueError(f"there is no problem {name!r}: `--list` shows the names")


def _names() -> str:
    functions = ", ".join(objective.name for objective in BUILT_IN)
    return f"functions of two numbers: {functions}\noptimizers: {', '.join(known_optimizers())}"


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
