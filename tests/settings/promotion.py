"""Whose code it is that JAX refuses to promote types or ranks for."""

import traceback
from pathlib import Path

import diffprog

OURS = Path(diffprog.__file__).parent
PROGRAMS = OURS / "cli" / "_broken_programs.py"  # as people write them
REFUSALS = ("jax_numpy_dtype_promotion=strict", "jax_numpy_rank_promotion='raise'")


def promotes_itself(error: BaseException | None) -> bool:
    """Tell whether an error, or one that led to it, is JAX's refusal of code that is neither JAX's nor diffprog's."""
    while error is not None:
        if any(text in str(error) for text in REFUSALS) and _is_at(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_at(error: BaseException) -> bool:
    """Tell whether the innermost call outside of JAX is of another's code."""
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    outside = [file for file in files if not {"jax", "contextlib.py"} & set(file.parts)]
    return bool(outside) and (OURS not in outside[-1].parents or outside[-1] == PROGRAMS)
