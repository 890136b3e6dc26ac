"""Say what is wrong with a gradient, and on which line it was born: of a broken program of ours, or of yours.

    %(prog)s --list
    %(prog)s masked_distance
    %(prog)s mypackage.mymodule:myfunction

A function of yours takes no argument and returns (function, arguments): the function whose gradient is to be looked at
and the tuple of arrays or pytrees at which to do so.
"""

import argparse
import difflib
from collections.abc import Callable, Sequence
from typing import Any

import diffprog as dp
from diffprog.cli._broken_programs import BROKEN, HEALTHY
from diffprog.cli._command_line import command_parser, launch, load_function


def main(arguments: Sequence[str] | None = None, prog: str = "diffprog diagnose") -> None:
    """Run the command."""
    parser = command_parser(prog, __doc__)
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help="a program of the list, or MODULE:NAME of yours")
    parser.add_argument("--list", action="store_true", help="list the programs, and stop")
    parser.add_argument("--memory", action="store_true", help="say too what the backward pass keeps")
    parser.add_argument("--compiled", action="store_true", help="say too what the compiled gradient holds, by line")
    launch(parser, run, arguments)


def run(options: argparse.Namespace) -> None:
    """Print the list, or a diagnosis of each program."""
    if options.list:
        show_list()
        return
    if not options.programs:
        raise ValueError("name a program, or --list them")
    for name, (fun, args) in [(name, find(name)) for name in options.programs]:
        diagnosis = dp.diagnose(fun)(*args)
        print(f"{name}\n{diagnosis}\n")
        if options.memory:
            print(f"{diagnosis.memory}\n")
        if options.compiled:
            print(f"{dp.memory(fun)(*args)}\n")


def show_list() -> None:
    """Print the programs and what is wrong with each."""
    for title, programs in ((f"{len(BROKEN)} broken programs:", BROKEN), ("\nand a healthy one:", HEALTHY)):
        print(title)
        for name, make in programs.items():
            print(f"  {name:<26} {make.__doc__}")


def find(name: str) -> tuple[Callable, Sequence[Any]]:
    """Make the function and the arguments that a word on the command line names."""
    known = BROKEN | HEALTHY
    if ":" in name:
        return load_function(name)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "--list shows them; one of yours is MODULE:NAME"
        raise ValueError(f"there is no program {name!r}: {hint}")
    return known[name]()
