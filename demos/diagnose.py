"""Say what is wrong with a gradient, and on which line it was born: of one of our broken programs, or of yours.

    python -m demos.diagnose --list
    python -m demos.diagnose masked_distance
    python -m demos.diagnose mypackage.mymodule:myfunction

A function of yours takes no argument and returns (function, arguments): the function whose gradient is to be looked at
and the tuple of arrays or pytrees at which to do so.
"""

import argparse
import difflib

import diffprog as dp
from demos.command_line import load_function
from diffprog.cli._broken_programs import BROKEN, HEALTHY


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="python -m demos.diagnose", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help="a program of the list, or MODULE:NAME of yours")
    parser.add_argument("--list", action="store_true", help="list the programs, and stop")
    parser.add_argument("--memory", action="store_true", help="say too what the backward pass keeps")
    options = parser.parse_args(argv)
    if not options.programs and not options.list:
        parser.error("name a program, or --list them")
    return parser, options


def show_list():
    for title, programs in ((f"{len(BROKEN)} broken programs:", BROKEN), ("\nand a healthy one:", HEALTHY)):
        print(title)
        for name, make in programs.items():
            print(f"  {name:<26} {make.__doc__}")


def find(name: str):
    known = BROKEN | HEALTHY
    if ":" in name:
        return load_function(name)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "--list shows them; one of yours is MODULE:NAME"
        raise ValueError(f"there is no program {name!r}: {hint}")
    return known[name]()


def main(argv=None):
    parser, options = parse(argv)
    if options.list:
        show_list()
        return
    for name in options.programs:
        try:
            fun, args = find(name)
        except ValueError as error:
            parser.error(str(error))
        diagnosis = dp.diagnose(fun)(*args)
        print(f"{name}\n{diagnosis}\n")
        if options.memory:
            print(f"{diagnosis.memory}\n")


if __name__ == "__main__":
    main()
