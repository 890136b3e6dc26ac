"""The console command `diffprog`: one module for each subcommand, which parses, calls the package and prints."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from diffprog import __version__

__all__ = ["main"]

# A command `some-name` is the function `main` of the module `_some_name`, which is imported when it is chosen.
COMMANDS = {
    "attack": "change a photograph until a network mistakes it, or measure a network's robustness",
    "attribute": "show where a network's answer comes from, by many methods side by side",
    "visualize": "draw what units of a network respond to; DeepDream, caricatures, atlases, pages",
    "optimize": "minimize a function by many optimizers, counted side by side; a page that shows why it works",
    "fit": "train a network on handwritten digits by full batch, mini-batch and single example",
    "train-digits": "train the two networks for digits that come with the package",
    "record": "draw a program's graph with every value and gradient: text, SVG, Graphviz, a page",
    "diagnose": "say what is wrong with a gradient, and on which line it was born",
    "compare": "compare gradients, and the time they take, with JAX's",
    "tour": "build reverse mode step by step, each step held against the tracer",
    "backprop-by-hand": "derive one gradient step of a small network, number by number",
}


def main(arguments: Sequence[str] | None = None, prog: str = "diffprog") -> None:
    """Run the subcommand that the first argument names.

    Args:
      arguments: words of the command line; those of the process unless given.
      prog: name of the program in help and errors.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Differentiate any JAX program, look at every gradient in it, and optimize whatever you point at.",
        epilog=f"`{prog} COMMAND --help` shows the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"diffprog {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, line in COMMANDS.items():
        commands.add_parser(name, help=line, add_help=False)
    command = parser.parse_args(arguments[:1]).command
    importlib.import_module(f"diffprog.cli._{command.replace('-', '_')}").main(arguments[1:], f"{prog} {command}")
