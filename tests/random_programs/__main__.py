"""Compare diffprog with JAX on many random programs: `python -m tests.random_programs --count 10000 --seed 1`.

Needs Hypothesis (the `test` extra). A program on which they differ is reduced and printed as a Python function with the
call that fails; the run goes on. The exit status is 1 if there was one. Another seed, other programs.
"""

import argparse
import sys
import time
from collections import Counter

import jax
from tqdm import tqdm

from tests.random_programs.generator import for_each
from tests.random_programs.reduce import failure, reduced

BATCH = 100


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.random_programs", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="how many programs")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="which programs (default: new ones)")
    options = parser.parse_args(arguments)
    ways, failures = Counter(), Counter()
    with tqdm(total=options.count, unit=" programs") as bar:

        def check(program):
            bar.update()
            ways[program.way, program.jit] += 1
            if failed := failure(program):
                failures[failed] += 1
                bar.write(f"\n# {failed}\n{reduced(program)}")

        for start in range(0, options.count, BATCH):
            for_each(min(BATCH, options.count - start), f"{options.seed} {start}", check)
    for (way, jit), count in sorted(ways.items()):
        print(f"{way + (' under jit' if jit else ' op by op'):<30}{count:>8}")
    print(f"{sum(ways.values())} programs, {failures.total()} failures, seed {options.seed}, JAX {jax.__version__}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
