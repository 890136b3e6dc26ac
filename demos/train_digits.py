"""Train the two networks for digits that come with the package.

    python -m demos.train_digits --out out/digits_networks.npz

The command `diffprog train-digits`, run from a clone.
"""

from diffprog.cli._train_digits import main

if __name__ == "__main__":
    main(prog="python -m demos.train_digits")
