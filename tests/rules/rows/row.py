"""What one case of a rule is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A function whose gradient is checked.

    Attributes:
      args: shapes (filled with random numbers of `domain`) or arrays (used as they are; integer ones are constants).
      complex_too: whether the function is also checked on complex numbers.
      order: 2 to check second derivatives too.
      tolerance: largest relative error in float64, with the reason for any above 1e-12.
    """

    name: str
    fun: Callable
    args: tuple
    domain: tuple[float, float] = (-2.0, 2.0)
    complex_too: bool = False
    order: int = 2
    tolerance: float = 1e-12
    why: str = ""
