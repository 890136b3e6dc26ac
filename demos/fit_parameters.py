"""Fit a network to handwritten digits by full-batch, mini-batch and single-example gradient descent.

    python -m demos.fit_parameters

The command `diffprog fit`, run from a clone.
"""

from diffprog.cli._fit import main

if __name__ == "__main__":
    main(prog="python -m demos.fit_parameters")
