"""Derive one gradient step of a two-layer network, with every number of the tape.

    python -m demos.backprop_by_hand

The command `diffprog backprop-by-hand`, run from a clone.
"""

from diffprog.cli._backprop_by_hand import main

if __name__ == "__main__":
    main(prog="python -m demos.backprop_by_hand")
