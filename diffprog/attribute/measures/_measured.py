"""`Measured`: what a measure returns."""

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Measured:
    """What a measure says of the attribution of each example. A pytree of NumPy arrays in double precision.

    Attributes:
      value: (n,), one number for each example. NaN where there is none, as for the direction of an empty map.
      error: (n,), standard error of the value, where it is estimated from random draws; else None.
      curve: (n, m), of a measure that has one; else None.
      at: (m,), where the points of the curve are: shares of the features that are changed, or their number.
      evaluations: int (n,), how often the model was run for each example, with or without a backward pass.
      steps: names of the points of the curve, where they have names.
      measure: its name.
    """

    value: np.ndarray
    error: Any = None
    curve: Any = None
    at: Any = None
    evaluations: Any = None
    steps: tuple[str, ...] = field(default=(), metadata={"static": True})
    measure: str = field(default="", metadata={"static": True})

    def __repr__(self) -> str:
        numbers = ", ".join(f"{value:.4g}" for value in np.ravel(self.value)[:8])
        more = ", ..." if np.size(self.value) > 8 else ""
        return f"Measured({self.measure}: {numbers}{more})"


def measured(measure: str, value: Any, count: int, evaluations: int = 0, **rest: Any) -> Measured:
    """Make the record of n examples that all took as many evaluations."""
    return Measured(np.asarray(value, np.float64), evaluations=np.full(count, evaluations), measure=measure, **rest)
