"""What a test problem is."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np


class Problem(NamedTuple):
    """A function whose minima are known.

    Attributes:
      name: of the literature.
      function: of parameters (n,), a number; of least squares the sum of squares, as the literature has it.
      starts: arrays (n,), where searches begin.
      values: of the function at its known minima, the lowest first.
      minimizers: arrays (n,), where these are; empty if the literature does not say.
      residuals: of parameters (n,), an array (m,); None if the function is no sum of squares.
      standard_errors: (n,), certified, of a fit; None elsewhere.
    """

    name: str
    function: Callable[[jax.Array], jax.Array]
    starts: tuple[np.ndarray, ...]
    values: tuple[float, ...]
    minimizers: tuple[np.ndarray, ...] = ()
    residuals: Callable[[jax.Array], jax.Array] | None = None
    standard_errors: np.ndarray | None = None
