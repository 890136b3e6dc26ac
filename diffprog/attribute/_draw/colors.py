"""Colors of signed numbers: orange speaks for the score, blue against it, and white is zero."""

import math
from typing import NamedTuple

import numpy as np

# Hues in OKLCH. Blue and orange stay apart for all common kinds of color blindness.
HUE_FOR, HUE_AGAINST = 52.0, 252.0
LIGHTEST, DARKEST = 1.0, 0.42
CHROMA = 0.165
MISSING = (0.35, 0.35, 0.35)  # a number that is NaN

# From OKLab to linear sRGB: Ottosson, "A perceptual color space for image processing", 2020.
_TO_CUBES = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


class Scale(NamedTuple):
    """What full color stands for; zero is white on every scale.

    Attributes:
      limit: the value of full color, on both sides.
      largest: the largest absolute value.
      is_signed: whether there are two sides.
    """

    limit: float
    largest: float
    is_signed: bool

    @property
    def note(self) -> str:
        """What the scale does to large values."""
        if not self.largest:
            return "no credit at all"
        return f"largest {number(self.largest)}" + (", clipped" if self.largest > self.limit else "")


def scale_of(values: np.ndarray, percentile: float = 99.5, limit: float | None = None, is_signed: bool = True) -> Scale:
    """Choose what full color stands for.

    Args:
      values: credit, of any shape; what is not finite does not count.
      percentile: of the absolute values, that gets full color.
      limit: the value of full color instead.
      is_signed: whether values may be negative.
    """
    sizes = np.abs(np.asarray(values, np.float64))
    sizes = sizes[np.isfinite(sizes)]
    largest = float(sizes.max(initial=0))
    if limit is not None:
        return Scale(float(limit), largest, is_signed)
    found = float(np.percentile(sizes, percentile)) if sizes.size else 0.0
    # A map of a few points has a percentile of 0.
    return Scale(found or largest or 1.0, largest, is_signed)


def colored(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Color numbers.

    Args:
      values: array of any shape.
      scale: what full color stands for.

    Returns:
      float32 RGB (..., 3) in [0, 1]: white at zero, as dark for a value as for its negative, gray for NaN.
    """
    values = np.asarray(values, np.float64)
    part = np.clip(values / scale.limit, -1, 1)
    rgb = _shade(np.abs(part), np.where(part < 0, HUE_AGAINST, HUE_FOR))
    return np.where(np.isnan(values)[..., None], MISSING, rgb).astype(np.float32)


def _shade(strength, hue):
    """Color by strength 0 .. 1 and hue in degrees: lightness falls evenly, chroma rises first."""
    strength = np.nan_to_num(strength)
    lightness = LIGHTEST + (DARKEST - LIGHTEST) * strength
    chroma = CHROMA * np.sin(np.pi * np.minimum(strength, 1) ** 0.8 * 0.72)
    angle = np.deg2rad(hue)
    lab = np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=-1)
    linear = (lab @ _TO_CUBES.T) ** 3 @ _TO_RGB.T
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def hex_color(value: float, scale: Scale) -> str:
    """Color one number, as #rrggbb."""
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in colored(np.asarray(value), scale))


def number(value: float) -> str:
    """Write a number with three digits, without an exponent where it is of a usual size."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        digits = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:.{digits}f}" if value else "0"
    return f"{value:.2g}"
