"""Arrays as the page shows them: type, figures, histogram, and numbers or a picture."""

import numpy as np

from diffprog._util.html_page import embed_picture
from diffprog.graph._draw.figures import brief, number, type_text
from diffprog.graph._recording.summaries import Summary, summarize

MOST_NUMBERS = 200
SIDE = 144  # pixels of a picture's longer side, at most
LEAST_SIDE = 8  # of an image-like array


def shown(value, aval=None) -> dict | None:
    """A value for JSON; None of None.

    Returns:
      a dict of "type", "brief" (one line), and as far as there are numbers: "stats" (name, text), "histogram" (counts,
      low, high), "numbers" (rows of text, of at most 200 elements), "picture" (a PNG as data URI) with "scaled" (the
      values that are black and white).
    """
    if value is None:
        return None
    found = {"type": type_text(aval if aval is not None else value), "brief": brief(value)}
    summary = summarize(value)
    if summary is None:
        return found
    if summary.size > 1:
        found["stats"] = _statistics(summary)
    if summary.size > 8 and len(summary.histogram) > 1:
        found["histogram"] = [list(summary.histogram), number(summary.low), number(summary.high)]
    if not isinstance(value, Summary) and summary.size:
        array = np.asarray(value)
        if _is_image(array):
            found["picture"], found["scaled"] = _picture(array)
        elif array.size <= MOST_NUMBERS:
            found["numbers"] = _rows(array)
    return found


def _statistics(summary: Summary) -> list[list[str]]:
    rows = [
        ["mean", number(summary.mean)],
        ["standard deviation", number(summary.spread)],
        ["smallest", number(summary.low)],
        ["largest", number(summary.high)],
        ["length (L2)", number(summary.norm)],
    ]
    shares = [("zeros", summary.zeros), ("not finite", summary.nonfinite)]
    return rows + [[name, f"{share:.3g}"] for name, share in shares if share]


def _rows(array: np.ndarray) -> list[list[str]]:
    """The numbers as a table; of more than two axes, the last is a row."""
    table = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
    return [[number(x) for x in row] for row in table.tolist()]


def _is_image(array: np.ndarray) -> bool:
    """(height, width, channels) or (n, height, width, channels) of 1 or 3 channels."""
    shape = array.shape[-3:]
    return array.ndim in (3, 4) and array.dtype.kind in "fui" and shape[2] in (1, 3) and min(shape[:2]) >= LEAST_SIDE


def _picture(array: np.ndarray) -> tuple[str, str]:
    """The first image; what is outside [0, 1] is scaled, about zero if it has both signs."""
    image = np.asarray(array if array.ndim == 3 else array[0], np.float32)
    image = np.where(np.isfinite(image), image, 0)
    low, high = float(image.min()), float(image.max())
    if low < 0 < high:
        low, high = -max(-low, high), max(-low, high)
    elif low >= 0 and high <= 1 and high - low > 0.1:
        low, high = 0.0, 1.0
    pixels = np.round(255 * (image - low) / ((high - low) or 1)).astype(np.uint8)
    return embed_picture(pixels, SIDE).uri, f"black {number(low)}, white {number(high)}"
