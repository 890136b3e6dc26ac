"""Seconds to lay out graphs of about 2,000 nodes, and to write the drawings and the page:
`python -m benchmarks.layout [--nodes N]`.

The graphs are made without running anything: a network of blocks with skips, random graphs with and without scopes, a
loop of many iterations, and one whose lines are long. Everything is opened, so that nothing is spared.
"""

import argparse
import time

from benchmarks.synthetic_graphs import chain_rows, loop_rows, random_rows, recording
from diffprog.graph._draw import dot, html, svg, text
from diffprog.graph._draw.grouping import group_tree
from diffprog.graph._draw.layering import arrangements, count_crossings
from diffprog.graph._draw.layout import lay_out

GRAPHS = {
    "network of blocks": lambda n: chain_rows(n // 19, 12),
    "random, scopes": random_rows,
    "random, no scopes": lambda n: random_rows(n, paths=("",)),
    "random, long lines": lambda n: random_rows(n, width=200, paths=("",)),
    "loop": lambda n: loop_rows(n // 4),
}


def timed(function, *args, **options):
    start = time.perf_counter()
    result = function(*args, **options)
    return time.perf_counter() - start, result


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layout", description=__doc__.split("\n\n")[0])
    parser.add_argument("--nodes", type=int, default=2000, help="about how many nodes (default %(default)s)")
    options = parser.parse_args(argv)
    columns = "".join(f"{f'{name} s':>7}" for name in ("svg", "page", "text", "dot"))
    print(f"{'graph':<20}{'nodes':>6}{'edges':>7}{'layout s':>10}{columns}  crossings")
    for name, rows in GRAPHS.items():
        r = recording(rows(options.nodes))
        tree = group_tree(r.nodes)

        def whole(r=r, tree=tree):
            arranged = arrangements(tree, r.nodes)
            lay_out(tree, arranged, set(tree.groups))
            return arranged

        seconds, arranged = timed(whole)
        crossings = 0
        for one in arranged.values():
            for layer in one.layers:
                for position, vertex in enumerate(layer):
                    vertex.position = position
            crossings += count_crossings(one.layers)
        written = [timed(write, r, open="*", everything=True)[0] for write in (svg, html, text)]
        written.append(timed(dot, r, everything=True)[0])
        edges = sum(len(node.incoming) for node in r.nodes)
        times = "".join(f"{t:>7.2f}" for t in written)
        print(f"{name:<20}{len(r.nodes):>6}{edges:>7}{seconds:>10.2f}{times}  {crossings}")


if __name__ == "__main__":
    main()
