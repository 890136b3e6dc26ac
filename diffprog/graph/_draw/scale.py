"""From the size of a gradient to one of seven steps of width and color, on a logarithmic scale."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

STEPS = 7
DECADES = 8  # gradients that are smaller than the largest by more than this share the lowest step


@dataclass(frozen=True)
class Scale:
    """The lowest and the highest size that the steps tell apart."""

    low: float
    high: float

    def step(self, size: float | None) -> int | None:
        """Return 0 to 6; None for None and for sizes that are zero or not finite."""
        if size is None or not math.isfinite(size) or size <= 0:
            return None
        if self.high <= self.low:
            return STEPS // 2
        along = (math.log10(size) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return min(max(int(along * STEPS), 0), STEPS - 1)


def scale_of(sizes: Iterable[float | None], decades: float = DECADES) -> Scale | None:
    """Make the scale from the smallest to the largest positive size, over so many decades; None if there is none."""
    positive = [size for size in sizes if size is not None and math.isfinite(size) and size > 0]
    if not positive:
        return None
    high = max(positive)
    return Scale(max(min(positive), high / 10**decades), high)
