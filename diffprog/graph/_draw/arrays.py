"""Arrays as the page shows them: type, figures, histogram, and numbers or a picture."""

from typing import Any

import numpy as np

from diffprog._util.html_page import embed_picture
from diffprog.graph._draw.figures import brief, number, type_text
from diffprog.graph._recording.summaries import Summary, summarize

MAX_NUMBERS = 200
SIDE = 144  # pixels of a picture's longer side, at most
MIN_SIDE = 8  # of an image-like array


def shown(value: Any, aval: Any = None) -> dict[str, Any] | None:
    """Describe a value for JSON; None for None.

    Args:
      value: an array, a `Summary` or None.
      aval: its type, if `value` does not say it.

    Returns:
      A dict of "type", "brief" (one line), and as far as there are numbers: "stats" (name, text), "histogram" (counts,
      low, high), "numbers" (rows of text, of at most 200 elements), "picture" (a PNG as data URI) with "scaled" (the
      values that are black and white).
    """
    if value is None:
        return None
    facts: dict[str, Any] = {"type": type_text(aval if aval is not None else value), "brief": brief(value)}
    summary = summarize(value)
    if summary is None:
        return facts
    if summary.size > 1:
        facts["stats"] = _statistics(summary)
    if summary.size > 8 and len(summary.histogram) > 1:
        facts["histogram"] = [list(summary.histogram), number(summary.low), number(summary.high)]
    if not isinstance(value, Summary) and summary.size:
        array = np.asarray(value)
        if _is_image(array):
            facts["picture"], facts["scaled"] = _picture(array)
        elif array.size <= MAX_NUMBERS:
            facts["numbers"] = _rows(array)
    return facts


def _statistics(summary: Summary) -> list[list[str]]:
    rows = [
        ["mean", number(summary.mean)],
        ["standard deviation", number(summary.std)],
        ["smallest", number(summary.low)],
        ["largest", number(summary.high)],
        ["length (L2)", number(summary.norm)],
    ]
    shares = [("zeros", summary.zeros), ("not finite", summary.nonfinite)]
    return rows + [[name, f"{share:.3g}"] for name, share in shares if share]


def _rows(array: np.ndarray) -> list[list[str]]:
    """Write the numbers as a table; with more than two axes, the last is a row."""
    table = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
    return [[number(x) for x in row] for row in table.tolist()]


def _is_image(array: np.ndarray) -> bool:
    """Whether the shape is (height, width, channels) or (n, height, width, channels) with 1 or 3 channels."""
    shape = array.shape[-3:]
    return array.ndim in (3, 4) and array.dtype.kind in "fui" and shape[2] in (1, 3) and min(shape[:2]) >= MIN_SIDE


def _picture(array: np.ndarray) -> tuple[str, str]:
    """Draw the first image; values outside [0, 1] are scaled, about zero if both signs occur."""
    image = np.asarray(array if array.ndim == 3 else array[0], np.float32)
    image = np.where(np.isfinite(image), image, 0)
    low, high = float(image.min()), float(image.max())
    if low < 0 < high:
        low, high = -max(-low, high), max(-low, high)
    elif low >= 0 and high <= 1 and high - low > 0.1:
        low, high = 0.0, 1.0
    pixels = np.round(255 * (image - low) / ((high - low) or 1)).astype(np.uint8)
    return embed_picture(pixels, SIDE).uri, f"black {number(low)}, white {number(high)}"
