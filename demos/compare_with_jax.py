"""Hold diffprog's gradients against JAX's: differences and times over eight networks, or over a function of yours.

One of the networks, and any function of yours, may be one that JAX does not differentiate: then the report has JAX's
error, and the gradient is held against central differences.

    python -m demos.compare_with_jax
    python -m demos.compare_with_jax lstm transformer_block --json report.json
    python -m demos.compare_with_jax --function mypackage.mymodule:myfunction

A function of yours takes no argument and returns (function, arguments): the function to differentiate and the tuple
of arrays or pytrees at which to do so.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
from tqdm import tqdm

import diffprog as dp
from demos.command_line import load_function
from demos.networks import NETWORKS
from diffprog._util.files import write_text


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="python -m demos.compare_with_jax",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"which of {', '.join(NETWORKS)} (default: all)")
    parser.add_argument("--function", metavar="MODULE:NAME", help="compare this function instead")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each measurement (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the networks' parameters (default %(default)s)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the reports there too")
    options = parser.parse_args(argv)
    for name in options.networks:
        if name not in NETWORKS:
            parser.error(f"there is no network {name!r}: choose from {', '.join(NETWORKS)}")
    if options.function and options.networks:
        parser.error("give either network names or --function, not both")
    return parser, options


def main(argv=None):
    parser, options = parse(argv)
    if options.function:
        try:
            fun, args = load_function(options.function)
        except ValueError as error:
            parser.error(str(error))
        cases = [(options.function, lambda: (fun, args))]
    else:
        names = options.networks or list(NETWORKS)
        cases = [(name, lambda name=name: NETWORKS[name](np.random.default_rng(options.seed))) for name in names]

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


if __name__ == "__main__":
    main()
