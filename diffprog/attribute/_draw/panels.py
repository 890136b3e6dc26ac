"""Sheets of panels: a picture, its title, lines of text, and the scale of its colors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from diffprog.attribute._draw.colors import Scale, colored, number
from diffprog.images import to_bytes, to_rgb

INK, SOFT, EDGE = (29, 28, 26), (103, 101, 95), (200, 197, 190)
FOR_TEXT, AGAINST_TEXT = (166, 70, 0), (0, 84, 166)


@dataclass(frozen=True)
class Panel:
    """One cell of a sheet.

    Attributes:
      picture: float (height, width, channels) in [0, 1], or None for a cell of text alone.
      title: one line.
      lines: further lines, smaller.
      scale: of the picture's colors, shown as a strip below it; None for none.
    """

    picture: np.ndarray | None
    title: str = ""
    lines: Sequence[str] = ()
    scale: Scale | None = None


def sheet_of(panels: Sequence[Panel], columns: int, cell: int, title: str = "", note: str = "") -> np.ndarray:
    """Set panels in rows.

    Args:
      panels: the cells.
      columns: cells in a row.
      cell: side of a picture in pixels.
      title: a line above all.
      note: a line below all, broken where it is too long.

    Returns:
      float32 (height, width, 3) in [0, 1].
    """
    gap, size = max(cell // 14, 6), max(round(cell / 13.5), 11)
    small, line = max(round(size * 0.8), 10), round(size * 1.3)
    strip = round(size * 1.55) if any(panel.scale for panel in panels) else 0
    most = max(len(panel.lines) for panel in panels)
    band = strip + line + round(most * small * 1.3) + gap
    rows = math.ceil(len(panels) / columns)
    width = columns * (cell + gap) + gap
    header = round(size * 2.6) if title else 0
    notes = wrapped(note, small, width - 2 * gap)
    footer = round(len(notes) * small * 1.35) + (gap if notes else 0)
    sheet = Image.new("RGB", (width, header + gap + rows * (cell + band) + footer), "white")
    draw = ImageDraw.Draw(sheet)
    if title:
        fitted_text(draw, (gap, header * 0.62), title, round(size * 1.35), width - 2 * gap, INK)
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        left, top = gap + column * (cell + gap), header + gap + row * (cell + band)
        if panel.picture is not None:
            _paste(sheet, panel.picture, left, top, cell)
            y = top + cell
        else:
            y = top
        if panel.scale is not None:
            legend(sheet, panel.scale, (left, y + gap // 4, left + cell, y + strip), small)
        y += strip if panel.picture is not None else 0
        fitted_text(draw, (left, y + line / 2), panel.title, size, cell, INK)
        for number_, text in enumerate(panel.lines):
            fitted_text(draw, (left, y + line + (number_ + 0.5) * small * 1.3), text, small, cell, SOFT)
    for number_, text in enumerate(notes):
        draw.text((gap, sheet.height - footer + number_ * small * 1.35), text, font=font(small), fill=SOFT)
    return np.asarray(sheet, np.float32) / 255


def _paste(sheet, picture, left, top, cell):
    shown = Image.fromarray(to_bytes(np.clip(to_rgb(picture), 0, 1)))
    bigger = max(shown.size) < cell
    fitted = ImageOps.contain(shown, (cell, cell), Image.Resampling.NEAREST if bigger else Image.Resampling.LANCZOS)
    x, y = left + (cell - fitted.width) // 2, top + (cell - fitted.height) // 2
    sheet.paste(fitted, (x, y))
    ImageDraw.Draw(sheet).rectangle((x, y, x + fitted.width - 1, y + fitted.height - 1), outline=EDGE)


def legend(sheet: Image.Image, scale: Scale, box: tuple[int, int, int, int], size: int) -> None:
    """Draw a strip of a scale's colors into a box of a sheet, with the numbers of its ends and of zero."""
    left, top, right, bottom = box
    draw, face = ImageDraw.Draw(sheet), font(size)
    low = -scale.limit if scale.is_signed else 0.0
    texts = number(low), number(scale.limit)
    margins = [round(draw.textlength(text, font=face)) + size // 3 for text in texts]
    start, end = left + margins[0], right - margins[1]
    height = max(round((bottom - top) * 0.55), 4)
    y = (top + bottom) // 2
    if end - start > 8:
        strip = to_bytes(colored(np.linspace(low, scale.limit, end - start), scale))
        pixels = np.repeat(strip[None], height, axis=0)
        sheet.paste(Image.fromarray(pixels), (start, y - height // 2))
        draw.rectangle((start, y - height // 2, end - 1, y - height // 2 + height - 1), outline=EDGE)
        zero = start + round((end - start) * (0.5 if scale.is_signed else 0))
        draw.line((zero, y - height // 2, zero, y - height // 2 + height - 1), fill=SOFT)
    signed = scale.is_signed
    draw.text((left, y), texts[0], font=face, fill=AGAINST_TEXT if signed else SOFT, anchor="lm")
    draw.text((right, y), texts[1], font=face, fill=FOR_TEXT, anchor="rm")


def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Load the font of captions, which comes with Pillow."""
    return ImageFont.load_default(size)


def fitted_text(
    draw: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, size: int, width: int, fill: tuple
) -> None:
    """Draw one line from (left, middle), set smaller if it is too long, and cut where that would be illegible."""
    size = max(min(size, int(size * width / max(draw.textlength(text, font=font(size)), 1))), 9)
    face = font(size)
    while len(text) > 1 and draw.textlength(text, font=face) > width:
        text = text.rstrip("\N{HORIZONTAL ELLIPSIS}")[:-1] + "\N{HORIZONTAL ELLIPSIS}"
    draw.text(xy, text, font=face, fill=fill, anchor="lm")


def wrapped(text: str, size: float, width: float) -> list[str]:
    """Break a text into lines that are no longer than `width` pixels."""
    face, lines = font(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and face.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines if lines[-1] else []
