"""Say what is wrong with a gradient, and on which line it was born: of a broken program of ours, or of yours.

    python -m demos.diagnose --list
    python -m demos.diagnose masked_distance
    python -m demos.diagnose mypackage.mymodule:myfunction

The command `diffprog diagnose`, run from a clone.
"""

from diffprog.cli._diagnose import main

if __name__ == "__main__":
    main(prog="python -m demos.diagnose")
