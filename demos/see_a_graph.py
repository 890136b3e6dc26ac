"""See every node and every edge of a program's graph: as text, SVG, Graphviz and a page to walk through.

    python -m demos.see_a_graph
    python -m demos.see_a_graph --example nan --out out/nan

The command `diffprog record`, run from a clone.
"""

from diffprog.cli._record import main

if __name__ == "__main__":
    main(prog="python -m demos.see_a_graph")
