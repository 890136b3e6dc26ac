"""`python -m diffprog` is the command `diffprog`."""

from diffprog.cli import main

if __name__ == "__main__":
    main(prog="python -m diffprog")
