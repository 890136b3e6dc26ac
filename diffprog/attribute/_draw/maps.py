"""Credit of pictures as pictures: signed maps, overlays, contours."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._draw.colors import Scale, colored, scale_of
from diffprog.images import resize
from diffprog.images._files import LUMA

CHANNELS = ("sum", "magnitude")
PALEST = 0.72  # how bright black is behind a map
SHARE = 0.5  # of the credit of one sign, which a contour encloses
SMOOTH = 0.04  # deviation of the blur before contours, as a part of the longer side


def maps_of(attribution: Any, channels: str = "sum") -> np.ndarray:
    """Bring credit to one number for each position.

    Args:
      attribution: an `Attribution` of pictures, or its values: (n, height, width), (n, height, width, channels), or
        with an axis of scores in front of these, which only an `Attribution` can tell; or a dict with one of them.
      channels: "sum" adds the channels up, so that the map has the sum of the values; "magnitude" takes the largest
        absolute value, which the picture of the plain gradient is made of, and has no sign.

    Returns:
      float64 (n, height, width), of several scores (k, n, height, width).

    Raises:
      ValueError: there is no picture in it.
    """
    if channels not in CHANNELS:
        raise ValueError(f"channels must be {' or '.join(map(repr, CHANNELS))}; found {channels!r}")
    values, several = attribution, False
    if isinstance(attribution, Attribution):
        values, several = attribution.values, np.ndim(attribution.score) == 2
    if isinstance(values, Mapping):
        if len(values) != 1:
            raise ValueError(f"a map shows one place; found {len(values)}, {list(values)}: choose one of the values")
        (values,) = values.values()
    rank = getattr(values, "ndim", 0) - several
    if rank not in (3, 4):
        found = getattr(values, "shape", type(values).__name__)
        raise ValueError(
            f"a map needs credit of shape (n, height, width[, channels]); found {found}: draw rows of a table with "
            "pictures.bars, and tokens with pictures.words"
        )
    maps = np.asarray(values, np.float64)
    if channels == "magnitude":
        maps = np.abs(maps)
        return maps.max(axis=-1) if rank == 4 else maps
    return maps.sum(axis=-1) if rank == 4 else maps


def blurred(maps: np.ndarray, deviation: float) -> np.ndarray:
    """Blur maps (..., height, width) by a Gaussian in pixels; what would leave at the edges is mirrored."""
    if not deviation:
        return maps
    return ndimage.gaussian_filter(maps, deviation, mode="reflect", axes=(-2, -1))


def enlarged(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bring one map (h, w) to a picture's size, linearly between places: nothing overshoots."""
    if maps.shape == (height, width):
        return maps
    return resize(maps, height, width, Image.Resampling.BILINEAR, to_8_bits=False).astype(np.float64)


def pale(image: np.ndarray) -> np.ndarray:
    """Make an image (height, width, channels) gray and bright, so that colors on it are those of a map."""
    image = np.asarray(image, np.float32)
    gray = image @ LUMA if image.shape[-1] == 3 else image.mean(axis=-1)
    low, high = float(gray.min()), float(gray.max())
    gray = (gray - low) / max(high - low, 1e-6)
    return np.repeat((PALEST + (1 - PALEST) * gray)[..., None], 3, axis=-1)


def over(image: np.ndarray, values: np.ndarray, scale: Scale) -> np.ndarray:
    """Print a map on a pale image, as transparent ink: where there is no credit, the image is seen."""
    return pale(image) * colored(enlarged(values, *np.shape(image)[:2]), scale)


def contour(values: np.ndarray, sign: int, share: float = SHARE) -> np.ndarray:
    """Find the smallest region that holds a share of the credit of one sign, in the map after a blur.

    Args:
      values: credit (height, width).
      sign: 1 for credit that speaks for the score, -1 for what speaks against it.
      share: of that credit, 0 to 1.

    Returns:
      bool (height, width); nothing if there is no such credit.
    """
    part = np.maximum(sign * np.nan_to_num(values), 0)
    smooth = ndimage.gaussian_filter(part, SMOOTH * max(values.shape), mode="constant")
    ordered = np.sort(smooth, axis=None)[::-1]
    sums = np.cumsum(ordered)
    if not sums[-1] > 0:
        return np.zeros(values.shape, bool)
    level = ordered[min(int(np.searchsorted(sums, share * sums[-1])), ordered.size - 1)]
    return smooth >= level


def outlined(image: np.ndarray, region: np.ndarray, color: np.ndarray, width: int = 1) -> np.ndarray:
    """Draw the border of a region (height, width) on an image (height, width, 3), with a bright line beside it."""
    inside = ndimage.binary_erosion(region, iterations=width, border_value=1)
    outside = ndimage.binary_dilation(region, iterations=width)
    drawn = np.where((outside & ~region)[..., None], np.float32(1), image)
    return np.where((region & ~inside)[..., None], color, drawn).astype(np.float32)


def with_contours(image: np.ndarray, values: np.ndarray, share: float = SHARE) -> np.ndarray:
    """Enclose a share of the credit for and against on an image (height, width, 3)."""
    image = np.asarray(image, np.float32)
    values = enlarged(values, *image.shape[:2])
    full = scale_of(np.ones(1), limit=1)
    width = max(1, round(max(image.shape[:2]) / 150))
    for sign in (-1, 1):
        region = contour(values, sign, share)
        if region.any():
            image = outlined(image, region, colored(np.asarray(sign), full), width)
    return image
