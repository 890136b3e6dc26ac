"""Build reverse mode from nothing, from a chain to a graph; `diffprog/cli/_tour.py` is the text to read.

    python -m demos.tour
    python -m demos.tour 3 4

The command `diffprog tour`, run from a clone.
"""

from diffprog.cli._tour import main

if __name__ == "__main__":
    main(prog="python -m demos.tour")
