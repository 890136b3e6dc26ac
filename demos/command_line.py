"""What the command lines of the demos share."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable

from diffprog.optimize import ENGINES


def launch(name: str, parser: argparse.ArgumentParser, run: Callable, arguments=None):
    """Parse the arguments and run; bad input ends the program with one sentence and exit code 2."""
    options = parser.parse_args(arguments)
    try:
        run(options)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{name}: {error}\n")


def add_engine(parser: argparse.ArgumentParser):
    """The option that says whose gradients to use."""
    parser.add_argument("--engine", choices=ENGINES, default="diffprog", help="whose gradients, diffprog unless given")


def positive(text: str) -> int:
    """A whole number of at least 1, for `add_argument(type=...)`."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1; found {text!r}")
    return int(text)


def load_function(spec: str):
    """The function and arguments that MODULE:NAME makes. ValueError with one sentence if it doesn't."""
    module, _, name = spec.partition(":")
    if not module or not name:
        raise ValueError(f"a function is named MODULE:NAME, as in mypackage.mymodule:myfunction; found {spec!r}")
    sys.path.insert(0, os.getcwd())
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot find {spec}: {error}") from None
    made = make()
    if not (isinstance(made, tuple) and len(made) == 2 and callable(made[0]) and isinstance(made[1], (tuple, list))):
        raise ValueError(
            f"{spec} must return (function, arguments), the arguments in a tuple; it returned {made!r:.80}"
        )
    return made
