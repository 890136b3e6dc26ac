"""Parts that the commands share."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from diffprog.optimize import ENGINES

EXTRAS = {"matplotlib": "demos", "sklearn": "atlas"}  # which extra of the package brings an optional module


def command_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Make a parser whose help shows the description as it is written, with `%(prog)s` filled in."""
    return argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def launch(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], None], arguments: Sequence[str] | None = None
) -> None:
    """Parse the arguments and run; bad input ends the program with one sentence and exit code 2, Ctrl-C with 130."""
    options = parser.parse_args(arguments)
    try:
        run(options)
    except KeyboardInterrupt:
        parser.exit(130, f"\n{parser.prog}: interrupted\n")
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        extra = EXTRAS[error.name]
        parser.exit(2, f"{parser.prog}: this needs {error.name}: run `pip install 'diffprog[{extra}]'`\n")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses whose gradients to use."""
    parser.add_argument("--engine", choices=ENGINES, default="diffprog", help="whose gradients (default: %(default)s)")


def positive(text: str) -> int:
    """Read a whole number of at least 1, for `add_argument(type=...)`."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1; found {text!r}")
    return int(text)


def short(label: str) -> str:
    """Take the first of a label's synonyms."""
    return label.split(",")[0]


def load_function(spec: str) -> tuple[Callable, Sequence[Any]]:
    """Import MODULE:NAME and call it for a function and its arguments.

    Raises:
      ValueError: it is not there, or returns something else; one sentence.
    """
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
