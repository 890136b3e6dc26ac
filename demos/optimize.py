"""Minimize a function by many optimizers, counted side by side, and write a page that shows why it works.

    python -m demos.optimize
    python -m demos.optimize rosenbrock --optimizer lbfgs adam

The command `diffprog optimize`, run from a clone.
"""

from diffprog.cli._optimize import main

if __name__ == "__main__":
    main(prog="python -m demos.optimize")
