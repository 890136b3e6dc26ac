"""Numbers as people give them."""

from operator import index
from typing import Any

import numpy as np


def whole_number(value: Any) -> int | None:
    """Read a whole number: Python's, NumPy's or JAX's, or a text of digits; None for anything else, a bool included."""
    if isinstance(value, str):
        digits = value.strip()
        return int(digits) if digits.removeprefix("-").isdecimal() and digits.isascii() else None
    if isinstance(value, bool):
        return None
    try:
        return index(value)
    except Exception:  # a tracer's error is no TypeError
        return None


def check_count(value: Any, name: str, least: int = 1) -> int:
    """Read a whole number that is at least `least`; texts are none.

    Raises:
      ValueError: It is something else.
    """
    number = None if isinstance(value, str) else whole_number(value)
    if number is None or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}; found {value!r}")
    return number


def check_positive(value: Any, name: str) -> Any:
    """Give a number back that is finite and above 0.

    Raises:
      ValueError: It is something else.
    """
    is_number = np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf"
    if not (is_number and np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive number; found {value!r}: leave it out for the default")
    return value
