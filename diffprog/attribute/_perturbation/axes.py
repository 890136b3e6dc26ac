"""Lengths along the axes of positions, as people give them."""

from typing import Any

from diffprog._util.numbers import check_count


def num_positions(shape: tuple[int, ...]) -> int:
    """Count the axes of positions of one example: all but the last, of channels; the only one of a row."""
    return max(len(shape) - 1, 1)


def per_axis(given: Any, shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Read one length for each axis of positions.

    Args:
      given: a length, or one for each of the first axes.
      shape: of one example.
      name: of the argument.

    Raises:
      ValueError: it is something else, or there are more lengths than axes.
    """
    if not shape:
        raise ValueError(f"{name} is a length along axes of an example, which has none here: leave it out")
    if isinstance(given, tuple | list):
        if not 1 <= len(given) <= len(shape):
            raise ValueError(f"{name} has a length for each of the first axes of {shape}; found {given!r}")
        return tuple(check_count(each, name) for each in given)
    return (check_count(given, name),) * num_positions(shape)
