"""Charts: the film of a path, and a score as the sum of its parts at every depth."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from diffprog.attribute._draw.colors import number, scale_of
from diffprog.attribute._draw.maps import blurred, enlarged, maps_of, over
from diffprog.attribute._draw.panels import EDGE, INK, SOFT, fitted_text, font, legend, wrapped
from diffprog.attribute._inside.by_depth import ScoreByDepth
from diffprog.images import resize, to_bytes

# Okabe and Ito's colors, which color-blind readers tell apart; parts of a score are drawn in this order.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a776f")
FINE = 2  # pixels of the drawing for one of the chart, averaged in the end


def film(
    parts: Any,
    scores: Any,
    slopes: Any,
    images: Any,
    maps: Any,
    *,
    frames: int = 8,
    cell: int = 150,
    smooth: float = 1.5,
    title: str = "From the baseline to the picture",
) -> np.ndarray:
    """Draw what happens on the way from a baseline to a picture: curves of the score and of its slope, and frames.

    Where the score is flat and the gradient small, the score is saturated: the gradient at the picture says little.

    Args:
      parts: of the way, from 0 at the baseline to 1 at the picture, in order.
      scores: at these points.
      slopes: sizes of the gradient there.
      images: the points themselves (points, height, width, channels) in [0, 1].
      maps: what each point adds to the credit, (points, height, width[, channels]).
      frames: points that are shown, evenly spread over the given ones, with both ends.
      cell: side of a frame in pixels.
      smooth: standard deviation in pixels of a blur of the maps, which keeps their sums.
      title: a line above all.

    Returns:
      float32 RGB (height, width, 3) in [0, 1].

    Raises:
      ValueError: there are not as many of one as of the other.
    """
    parts, scores, slopes = (np.asarray(each, np.float64) for each in (parts, scores, slopes))
    images, maps = np.asarray(images, np.float32), blurred(maps_of(maps), smooth)
    counts = {len(each) for each in (parts, scores, slopes, images, maps)}
    if len(counts) != 1 or parts.ndim != 1 or len(parts) < 2:
        raise ValueError(
            "a film needs as many parts, scores, slopes, images and maps, 2 or more; found "
            f"{len(parts)}, {len(scores)}, {len(slopes)}, {len(images)} and {len(maps)}"
        )
    shown = np.unique(np.round(np.linspace(0, len(parts) - 1, min(frames, len(parts)))).astype(int))
    gap, size = max(cell // 18, 5), max(cell // 11, 11)
    width = len(shown) * (cell + gap) + gap
    chart_height, top = round(1.25 * cell), round(3.4 * size)
    frames_top = top + chart_height + 3 * size
    height = frames_top + 2 * (cell + gap) + 4 * size
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    fitted_text(draw, (gap, size * 1.1), title, round(size * 1.25), width - 2 * gap, INK)
    box = (gap + 4 * size, top, width - gap - 4 * size, top + chart_height)
    _curves(sheet, box, parts, scores, slopes, size)
    scale = scale_of(maps[shown])
    for column, index in enumerate(shown):
        left = gap + column * (cell + gap)
        x = left + cell / 2
        face = font(size)
        draw.text((x, frames_top - size * 0.7), f"{parts[index]:.3g}", font=face, fill=SOFT, anchor="mm")
        _frame(sheet, np.clip(images[index], 0, 1), left, frames_top, cell)
        full = enlarged(maps[index], *images.shape[1:3])
        _frame(sheet, over(images[index], full, scale), left, frames_top + cell + gap, cell)
        text = f"score {number(scores[index])}"
        draw.text((x, frames_top + 2 * cell + gap + size), text, font=face, fill=INK, anchor="mm")
    legend(sheet, scale, (gap, height - round(1.7 * size), gap + 2 * cell, height - 4), round(size * 0.85))
    note = "what each point adds: orange for the score, blue against it, one scale for all"
    fitted_text(draw, (2 * gap + 2 * cell, height - size), note, round(size * 0.9), width - 2 * cell - 3 * gap, SOFT)
    return np.asarray(sheet, np.float32) / 255


def _frame(sheet, picture, left, top, cell):
    bytes_ = to_bytes(np.clip(resize(picture, cell, cell, to_8_bits=False), 0, 1))
    sheet.paste(Image.fromarray(bytes_ if bytes_.shape[-1] == 3 else np.repeat(bytes_, 3, axis=-1)), (left, top))
    ImageDraw.Draw(sheet).rectangle((left, top, left + cell - 1, top + cell - 1), outline=EDGE)


def _curves(sheet, box, parts, scores, slopes, size):
    """Draw the score, and the size of the gradient, over the way: each on its own axis."""
    left, top, right, bottom = box
    fine = Image.new("RGB", ((right - left) * FINE, (bottom - top) * FINE), "white")
    pen = ImageDraw.Draw(fine)
    x = (parts - parts[0]) / max(parts[-1] - parts[0], 1e-12) * (fine.width - 1)
    pen.line((0, fine.height - 1, fine.width, fine.height - 1), fill=EDGE, width=FINE)
    draw = ImageDraw.Draw(sheet)
    face = font(size)
    sides = (("score", scores, COLORS[0], "lm"), ("size of its gradient", slopes, COLORS[5], "rm"))
    for name, values, color, anchor in sides:
        low, high = min(0.0, float(np.nanmin(values))), float(np.nanmax(values))
        high = high if high > low else low + 1
        y = (1 - (values - low) / (high - low)) * (fine.height - 4 * FINE) + 2 * FINE
        pen.line(
            [(a, b) for a, b in zip(x, y, strict=True) if np.isfinite(b)], fill=color, width=2 * FINE, joint="curve"
        )
        at = right + 4 if anchor == "rm" else left - 4
        outward = {"rm": "lm", "lm": "rm"}[anchor]
        draw.text((at, top + size // 2), number(high), font=face, fill=color, anchor=outward)
        draw.text((at, bottom - size // 2), number(low), font=face, fill=color, anchor=outward)
        draw.text((left if anchor == "lm" else right, top - size), name, font=face, fill=color, anchor=anchor)
    sheet.paste(fine.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))


def strip(
    result: ScoreByDepth,
    *,
    title: str = "The score as the sum of its parts, at every depth",
    width: int = 1000,
    height: int = 460,
) -> np.ndarray:
    """Draw a score as a stack of parts for each depth of a network; every stack adds up to the same total.

    Parts below zero stand below the line: what is above it, less what is below, is the score.

    Args:
      result: of `attribute.score_by_depth`.
      title: a line above all.
      width: in pixels.
      height: in pixels.

    Returns:
      float32 RGB (height, width, 3) in [0, 1].
    """
    layers, table, total = result.layers, result.parts, result.score
    stacked = np.stack(list(table.values()))
    up, down = np.maximum(stacked, 0).sum(axis=0), np.minimum(stacked, 0).sum(axis=0)
    high, low = max(float(up.max()), total, 0.0) * 1.04, min(float(down.min()), total, 0.0) * 1.04
    size = max(width // 70, 11)
    sheet = Image.new("RGB", (width * FINE, height * FINE), "white")
    pen = ImageDraw.Draw(sheet)
    left, right, top, bottom = 4.5 * size, width - 1.0 * size, 5.2 * size, height - 6.4 * size
    y_of = lambda value: top + (high - value) / max(high - low, 1e-12) * (bottom - top)
    fine = lambda *numbers: tuple(round(FINE * each) for each in numbers)
    pitch = (right - left) / len(layers)
    for column in range(len(layers)):
        x, above, below = left + column * pitch + 0.12 * pitch, 0.0, 0.0
        for (_, values), color in zip(table.items(), COLORS, strict=False):
            value = float(values[column])
            start = above if value >= 0 else below
            ends = sorted((y_of(start), y_of(start + value)))
            pen.rectangle(fine(x, ends[0], x + 0.76 * pitch, ends[1]), fill=color)
            above, below = above + max(value, 0), below + min(value, 0)
    pen.line(fine(left, y_of(0), right, y_of(0)), fill=INK, width=FINE)
    y = y_of(total)
    for start in np.arange(left, right, 0.9 * size):
        pen.line(fine(start, y, min(start + 0.5 * size, right), y), fill=INK, width=2 * FINE)
    sheet = sheet.resize((width, height), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(sheet)
    fitted_text(draw, (size, 1.3 * size), title, round(1.3 * size), width - 2 * size, INK)
    x = float(size)
    for name, color in zip(table, COLORS, strict=False):
        draw.rectangle((x, 2.7 * size, x + size, 3.7 * size), fill=color)
        draw.text((x + 1.4 * size, 3.2 * size), name, font=font(size), fill=INK, anchor="lm")
        x += font(size).getlength(name) + 3.2 * size
    for value, text in ((0.0, "0"), (total, number(total))):
        draw.text((left - 6, y_of(value)), text, font=font(size), fill=INK, anchor="rm")
    for column, layer in enumerate(layers):
        _slanted(sheet, layer, (left + (column + 0.5) * pitch, bottom + 4), size)
    note = (
        f"dashed: the score, {number(total)}, which the parts of every column add up to, those below the line negative"
    )
    draw.text((size, height - size), wrapped(note, size, width)[0], font=font(size), fill=SOFT, anchor="lm")
    return np.asarray(sheet, np.float32) / 255


def _slanted(sheet, text, xy, size):
    """Write a text that ends below a point, rising to the right."""
    face = font(size)
    length = round(face.getlength(text)) + 2
    label = Image.new("L", (length, round(1.4 * size)), 0)
    ImageDraw.Draw(label).text((0, label.height // 2), text, font=face, fill=255, anchor="lm")
    turned = label.rotate(45, expand=True, resample=Image.Resampling.BICUBIC)
    x, y = round(xy[0] - turned.width + size / 2), round(xy[1])
    sheet.paste(Image.new("RGB", turned.size, SOFT), (x, y), turned)
