"""Hold diffprog's gradients against JAX's: differences and times over eight networks, or over a function of yours.

One of the networks, and any function of yours, may be one that JAX does not differentiate: then the report has JAX's
error, and the gradient is held against central differences.

    %(prog)s
    %(prog)s lstm transformer_block --json report.json
    %(prog)s --function mypackage.mymodule:myfunction

A function of yours takes no argument and returns (function, arguments): the function to differentiate and the tuple
of arrays or pytrees at which to do so.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

import diffprog as dp
from diffprog._util.files import write_text
from diffprog.cli._command_line import command_parser, launch, load_function
from diffprog.cli._networks import NETWORKS


def main(arguments: Sequence[str] | None = None, prog: str = "diffprog compare") -> None:
    """Run the command."""
    parser = command_parser(prog, __doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"which of {', '.join(NETWORKS)} (default: all)")
    parser.add_argument("--function", metavar="MODULE:NAME", help="compare this function instead")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each measurement (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the networks' parameters (default: %(default)s)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the reports there too")
    launch(parser, run, arguments)


def run(options: argparse.Namespace) -> None:
    """Print a report of each function, and the largest difference of all."""
    cases = _cases(options)
    reports = []
    with tqdm(cases, disable=None, leave=False) as progress:
        for name, make in progress:
            progress.set_description(name)
            fun, args = make()
            reports.append(dp.compare(fun, *args, seconds=options.seconds, name=name))
            progress.write(f"{reports[-1]}\n", file=sys.stdout)
    for other, chosen in (
        ("jax.grad", [report for report in reports if not report.jax_error]),
        ("central differences, where JAX raises", [report for report in reports if report.jax_error]),
    ):
        if chosen:
            worst = max(report.largest_relative for report in chosen)
            print(f"largest relative difference of a gradient from {other}: {worst:.1e}")
    if options.json:
        write_text(options.json, json.dumps([report.as_dict() for report in reports], indent=2) + "\n")
        print(f"wrote {options.json}")


def _cases(options):
    """List (name, function that makes the function to compare and its arguments)."""
    if options.function and options.networks:
        raise ValueError("give either network names or --function, not both")
    if options.function:
        made = load_function(options.function)
        return [(options.function, lambda: made)]
    for name in options.networks:
        if name not in NETWORKS:
            raise ValueError(f"there is no network {name!r}: choose from {', '.join(NETWORKS)}")
    names = options.networks or list(NETWORKS)
    return [(name, lambda name=name: NETWORKS[name](np.random.default_rng(options.seed))) for name in names]
