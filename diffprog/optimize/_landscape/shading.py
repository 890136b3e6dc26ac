"""From values to shades: linear, or logarithmic where a few large values would hide the rest."""

from typing import NamedTuple

import numpy as np

NUM_LEVELS = 14


class Shading(NamedTuple):
    """How values become shades.

    Attributes:
      is_logarithmic: whether a shade grows with log(value - offset).
      offset: what is subtracted before the logarithm; 0 for positive values and for a linear scale.
      low, high: values of the darkest and the lightest shade.
    """

    is_logarithmic: bool
    offset: float
    low: float
    high: float

    def height(self, values: np.ndarray | float) -> np.ndarray:
        """Return what the shade is linear in."""
        values = np.asarray(values, np.float64)
        if not self.is_logarithmic:
            return values
        return np.log10(np.maximum(values, self.low) - self.offset)

    def shade(self, values: np.ndarray) -> np.ndarray:
        """Return shades in [0, 1], NaN for what is not finite."""
        low, high = self.height(self.low), self.height(self.high)
        with np.errstate(invalid="ignore"):
            shades = np.clip((self.height(values) - low) / max(high - low, 1e-300), 0, 1)
        return np.where(np.isfinite(values), shades, np.nan)

    def levels(self) -> np.ndarray:
        """Return values for contours, evenly spaced in shade."""
        heights = np.linspace(self.height(self.low), self.height(self.high), NUM_LEVELS + 2)[1:-1]
        return 10**heights + self.offset if self.is_logarithmic else heights

    def words(self) -> str:
        """Say what the scale is."""
        if not self.is_logarithmic:
            return "linear scale"
        return "logarithmic scale" if self.offset == 0 else f"logarithmic scale of the value above {self.offset:.4g}"


def shading(values: np.ndarray, scale: str = "auto") -> Shading:
    """Make the scale, "linear" or "log"; "auto" is log if most values are crowded at the lower end.

    A paraboloid's middle value lies at a third of its range; at less than a sixth, colors show too little of the rest.
    """
    finite = np.asarray(values, np.float64)[np.isfinite(values)]
    if not finite.size:
        return Shading(False, 0.0, 0.0, 1.0)
    low, middle, high = float(finite.min()), float(np.median(finite)), float(finite.max())
    crowded = high - low > 6 * (middle - low)
    if scale == "linear" or high == low or (scale == "auto" and not crowded):
        return Shading(False, 0.0, low, high)
    if low > 0 and high > 20 * low:
        return Shading(True, 0.0, low, high)
    above = np.sort(finite - low)
    floor = max(float(above[above > 0][: max(1, above.size // 50)].max()), 1e-6 * (high - low))
    return Shading(True, low - floor, low, high)
