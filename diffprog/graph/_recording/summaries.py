"""Arrays in a few numbers."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

_BINS = 24


@dataclass(frozen=True)
class Summary:
    """An array in a few numbers.

    Attributes:
      shape, dtype: of the array.
      mean, std: mean and standard deviation of its finite elements (of their absolute values, if they are complex).
      low, high: smallest and largest finite element.
      norm: Euclidean length of the finite elements.
      zeros, nonfinite: shares of its elements, 0 to 1.
      histogram: counts of the finite elements in equal bins from `low` to `high`.
    """

    shape: tuple[int, ...]
    dtype: object
    mean: float
    std: float
    low: float
    high: float
    norm: float
    zeros: float
    nonfinite: float
    histogram: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape))

    def __str__(self):
        if not self.size:
            return "empty"
        if self.size == 1:
            return f"{self.mean:.6g}" if not self.nonfinite else "not finite"
        text = f"{self.mean:.3g} ± {self.std:.2g} in [{self.low:.3g}, {self.high:.3g}]"
        if self.zeros:
            text += f", {self.zeros:.0%} zero"
        if self.nonfinite:
            text += f", {self.nonfinite:.0%} not finite"
        return text


def summarize(value: Any) -> Summary | None:
    """Summarize an array in a few numbers.

    Args:
      value: an array, a number, a `Summary`, or something without numbers (None, a key).

    Returns:
      The summary; None for what has no numbers. A `Summary` is returned as it is.
    """
    if value is None or isinstance(value, Summary):
        return value
    dtype = getattr(value, "dtype", np.asarray(value).dtype if isinstance(value, (int, float, complex)) else None)
    if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended) or dtype == jax.dtypes.float0:
        return None
    array = np.asarray(value)
    shape = array.shape
    array = np.abs(array) if array.dtype.kind == "c" else array
    flat = array.reshape(-1)
    flat = flat if flat.dtype.itemsize >= 4 and flat.dtype.kind == "f" else flat.astype(np.float32)
    size = flat.size
    if not size:
        return Summary(shape, dtype, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, ())
    low, high = float(flat.min()), float(flat.max())
    finite = flat
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = flat[np.isfinite(flat)]
        if not finite.size:
            return Summary(shape, dtype, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, ())
        low, high = float(finite.min()), float(finite.max())
    mean = float(finite.mean(dtype=np.float64))
    # Scaled, so that the square of a large number does not overflow.
    scale = max(abs(low), abs(high)) or 1.0
    scaled = finite / flat.dtype.type(scale) if scale > 1e15 or scale < 1e-15 else finite
    unit = scale if scaled is not finite else 1.0
    norm = float(np.sqrt(np.dot(scaled, scaled))) * unit
    std = float(np.sqrt(max((norm / unit) ** 2 / finite.size - (mean / unit) ** 2, 0.0))) * unit
    zeros = 1.0 - np.count_nonzero(flat) / size
    return Summary(
        shape, dtype, mean, std, low, high, norm, zeros, 1.0 - finite.size / size, _histogram(finite, low, high)
    )


def _histogram(finite, low, high) -> tuple[int, ...]:
    """Count elements in equal bins; for speed, of at most 100,000 evenly chosen elements, scaled up."""
    every = -(-finite.size // 100_000)
    with np.errstate(all="ignore"):
        per_unit = np.float64(_BINS) / (np.float64(high) - np.float64(low))
        if low == high or not (np.isfinite(per_unit) and per_unit > 0):
            return (finite.size,)
        # Not np.histogram: it refuses extremes so close that its bins' edges coincide.
        bins = ((finite[::every].astype(np.float64) - low) * per_unit).astype(np.int64)
    counts = np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS)
    return tuple(int(c) * every for c in counts)
