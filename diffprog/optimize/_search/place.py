"""A value inside a program as what is optimized: "any node or any edge"."""

from collections.abc import Callable
from typing import Any

from diffprog.graph import Selector, activations, intervene


def at_place(function: Callable[[Any], Any], parameters: Any, selector: Selector) -> tuple[Callable[[Any], Any], Any]:
    """Make a value of a program its argument.

    Args:
      function: the program, unmodified.
      parameters: what it is called with.
      selector: which value (see `dp.graph`): one alone.

    Returns:
      The program as a function of the value alone, and the value as it is.

    Raises:
      ValueError: the selector means nothing, or several values.
    """
    value = activations(function, selector)(parameters)[selector]
    if isinstance(value, list):
        raise ValueError(
            f"at must select one value; {selector!r} means {len(value)}: name one by a tap, a path or a source line"
        )

    def moved(value):
        return intervene(function, {selector: lambda _: value})(parameters)

    return moved, value
