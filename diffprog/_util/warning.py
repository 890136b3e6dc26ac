"""Warnings that point at the line of the user's program."""

import contextlib
import sys
import warnings
from pathlib import Path

_OURS = (str(Path(__file__).parents[1]), contextlib.__file__)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called diffprog, however deep in diffprog the reason is found."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
