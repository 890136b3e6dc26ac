"""Numbers as people give them."""

from operator import index
from typing import Any


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
