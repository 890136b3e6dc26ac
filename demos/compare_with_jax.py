"""Compare gradients, and the time they take, with JAX's, over eight networks or a function of yours.

    python -m demos.compare_with_jax
    python -m demos.compare_with_jax lstm transformer_block --json report.json
    python -m demos.compare_with_jax --function mypackage.mymodule:myfunction

The command `diffprog compare`, run from a clone.
"""

from diffprog.cli._compare import main

if __name__ == "__main__":
    main(prog="python -m demos.compare_with_jax")
