"""What the command lines of the demos share."""

import argparse
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
