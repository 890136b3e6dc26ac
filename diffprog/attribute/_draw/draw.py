"""`draw` and `sheet`: attributions of pictures beside the pictures."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from diffprog._jax_internals import Tracer
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._draw.colors import colored, number, scale_of
from diffprog.attribute._draw.maps import SHARE, blurred, enlarged, maps_of, over, with_contours
from diffprog.attribute._draw.panels import Panel, sheet_of
from diffprog.images import to_bytes

PERCENTILE = 99.5  # of the sizes in a map, that gets full color


def heatmap(
    attribution: Any, *, channels: str = "sum", percentile: float = PERCENTILE, limit: float | None = None
) -> np.ndarray:
    """Color credit: orange for what speaks for the score, blue for what speaks against it, white for zero.

    Zero is in the middle of the scale whatever the values are, and a value is as dark as its negative.

    Args:
      attribution: an `Attribution` of pictures; or values (n, height, width[, channels]).
      channels: "sum" adds the channels up; "magnitude" takes the largest absolute value, as the picture of the plain
        gradient is usually made, and has no sign.
      percentile: of the absolute values of each map, that gets full color; larger ones are clipped.
      limit: the value of full color instead, for maps that are to be compared.

    Returns:
      float32 RGB (n, height, width, 3) in [0, 1]; of several scores (k, n, height, width, 3).

    Raises:
      ValueError: there is no picture in it.
    """
    maps = maps_of(attribution, channels)
    flat = maps.reshape(-1, *maps.shape[-2:])
    colors = [colored(each, scale_of(each, percentile, limit, channels == "sum")) for each in flat]
    return np.stack(colors).reshape(*maps.shape, 3)


def draw(
    attribution: Any,
    images: Any = None,
    *,
    names: Sequence[str] | None = None,
    channels: str = "sum",
    percentile: float = PERCENTILE,
    limit: float | None = None,
    smooth: float = 0.0,
    contours: float | None = SHARE,
    cell: int = 224,
    title: str = "",
) -> np.ndarray:
    """Draw an attribution as a sheet: a row for each example, of the picture, the signed map, and both together.

    Args:
      attribution: an `Attribution` of pictures; or values (n, height, width[, channels]).
      images: the pictures (n, height, width, channels) in [0, 1]; without them, maps alone.
      names: a title for each row: for each example, or for each score of each example.
      channels: "sum" or "magnitude", as in `heatmap`.
      percentile: of the absolute values of each map, that gets full color; larger ones are clipped.
      limit: the value of full color instead.
      smooth: standard deviation in pixels of a blur of the maps, which keeps their sums: neighbors of opposite signs,
        of which maps of gradients are full, add up.
      contours: the share of the credit of each sign that lines enclose, in the smallest region of the map after a blur
        of 4 % of the longer side; None for no lines.
      cell: side of a picture in pixels.
      title: a line above all.

    Returns:
      float32 RGB (height, width, 3) in [0, 1], for `diffprog.images.save_png`.

    Raises:
      ValueError: there is no picture in it, or images or names do not fit.
    """
    maps = blurred(maps_of(attribution, channels), smooth)
    count = maps.shape[-3]
    flat = maps.reshape(-1, *maps.shape[-2:])
    pictures = None if images is None else _pictures(images, count)
    if names is not None and len(names) != len(flat):
        raise ValueError(f"names must be {len(flat)} titles, one for each row; found {len(names)}")
    panels, is_signed = [], channels == "sum"
    facts = facts_of(attribution) if isinstance(attribution, Attribution) else [()] * len(flat)
    for row, values in enumerate(flat):
        scale = scale_of(values, percentile, limit, is_signed)
        name = "" if names is None else names[row]
        missing = int(np.isnan(values).sum())
        lines = [*facts[row], *([f"NaN at {missing} positions, gray"] if missing else [])]
        method = attribution.method if isinstance(attribution, Attribution) else "credit"
        if pictures is None:
            panels.append(Panel(colored(values, scale), name or method, [scale.note, *lines], scale))
            continue
        image = pictures[row % count]
        height, width = image.shape[:2]
        printed = over(image, values, scale)
        about = "channels added up" if is_signed else "largest |credit| of the channels"
        panels.append(Panel(image, name or f"example {row % count}", lines))
        panels.append(Panel(colored(enlarged(values, height, width), scale), method, [about, scale.note], scale))
        outlines = f"lines hold {contours:.0%} of each sign's credit" if contours and is_signed else ""
        together = with_contours(printed, values, contours) if contours and is_signed else printed
        panels.append(Panel(together, "on the picture", [outlines]))
    columns = 3 if pictures is not None else min(len(panels), 4)
    return sheet_of(panels, columns, cell, title, _reading(percentile, limit, is_signed, smooth))


def _reading(percentile, limit, is_signed, smooth):
    full = f"the {percentile:g}th percentile of the sizes in each map" if limit is None else number(limit)
    blur = f" Maps are blurred by {smooth:g} pixels, which keeps their sums." if smooth else ""
    if not is_signed:
        return f"Sizes without a sign: white is zero, full color is {full}.{blur}"
    return (
        "Orange speaks for the score, blue against it, white is zero, always in the middle of the scale; full color is "
        f"{full}.{blur}"
    )


def facts_of(attribution: Attribution) -> list[tuple[str, ...]]:
    """Say of each example, and each score of it, what one needs to trust a map: score, gap, evaluations."""
    scores = np.asarray(attribution.score, np.float64)
    rows = np.ravel(scores)
    flat = lambda leaf: None if leaf is None else np.broadcast_to(np.asarray(leaf, np.float64), scores.shape).ravel()
    starts, gaps, runs = flat(attribution.baseline_score), flat(attribution.gap), flat(attribution.evaluations)
    met = flat(attribution.converged)
    facts = []
    for row, score in enumerate(rows):
        lines = [f"score {number(score)}" + ("" if starts is None else f", of the baseline {number(starts[row])}")]
        lines.append(
            "no axiom gives the sum"
            if gaps is None
            else gap_text(gaps[row], score, 0.0 if starts is None else starts[row])
        )
        if runs is not None:
            lines.append(f"{runs[row]:.0f} evaluation{'s' if runs[row] != 1 else ''}")
        if met is not None and not met[row]:
            lines.append("the gap asked for was not met")
        if attribution.unruled:
            lines.append(f"no rule for {', '.join(attribution.unruled)}")
        facts.append(tuple(lines))
    return facts


def gap_text(gap: float, score: float, baseline_score: float) -> str:
    """Say how much is missing to completeness, as a part of what is explained."""
    explained = score - baseline_score
    if not explained:
        return f"gap {number(gap)}"
    share = abs(gap / explained)
    return f"gap {number(gap)} of {number(explained)} ({f'{share:.1%}' if share >= 0.001 else f'{share:.0e}'})"


def _pictures(images, count):
    pictures = np.asarray(images, np.float32)
    if pictures.ndim != 4 or len(pictures) != count:
        raise ValueError(f"images must be ({count}, height, width, channels), one for each map; found {pictures.shape}")
    if not (np.isfinite(pictures).all() and pictures.min() >= 0 and pictures.max() <= 1):
        raise ValueError(f"images must be in [0, 1]; found {pictures.min():.4g} .. {pictures.max():.4g}")
    return pictures


def sheet(
    image: Any,
    attributions: Mapping[str, Attribution],
    *,
    example: int = 0,
    title: str = "",
    picture_lines: Sequence[str] = (),
    lines: Mapping[str, Sequence[str]] | None = None,
    columns: int = 6,
    cell: int = 224,
    smooth: float = 0.0,
    contours: float | None = None,
) -> np.ndarray:
    """Draw many answers about one picture: a map for each method, with its gap and its own scale under it.

    Args:
      image: (height, width, channels) in [0, 1].
      attributions: from title to the attribution that it names, all of this picture and of one score.
      example: which example of the attributions the picture is.
      title: a line above all.
      picture_lines: text under the picture itself: its title, and smaller lines.
      lines: from title to further lines under its map.
      columns: cells in a row.
      cell: side of a map in pixels.
      smooth: standard deviation in pixels of a blur of the maps, which keeps their sums.
      contours: the share of the credit of each sign that lines enclose; None for no lines.

    Returns:
      float32 RGB (height, width, 3) in [0, 1].

    Raises:
      ValueError: there is no picture in an attribution.
    """
    image = _pictures(np.asarray(image, np.float32)[None], 1)[0]
    first, *more = picture_lines or ("the picture",)
    panels = [Panel(image, first, more)]
    for name, attribution in attributions.items():
        maps = maps_of(attribution)
        if maps.ndim != 3:
            raise ValueError(f"a sheet shows one score; {name} has {maps.shape[0]}: give attributions of one")
        height, width = image.shape[:2]
        values = blurred(enlarged(maps[example], height, width), smooth * (maps.shape[1:] == (height, width)))
        scale = scale_of(values)
        shown = over(image, values, scale)
        shown = with_contours(shown, values, contours) if contours else shown
        panels.append(Panel(shown, name, _under(attribution, example, (lines or {}).get(name, ())), scale))
    return sheet_of(panels, min(columns, len(panels)), cell, title, _reading(PERCENTILE, None, True, smooth))


def _under(attribution, example, further):
    gap = None if attribution.gap is None else np.asarray(attribution.gap)[example]
    start = 0.0 if attribution.baseline_score is None else float(np.asarray(attribution.baseline_score)[example])
    score = float(np.asarray(attribution.score)[example])
    told = "no axiom gives the sum" if gap is None else gap_text(float(gap), score, start)
    return [told, *further]


def notebook_png(attribution: Attribution, most: int = 6) -> bytes | None:
    """Draw the first maps of an attribution of pictures as PNG for a notebook; None if it is of something else."""
    values = attribution.values
    rank = getattr(values, "ndim", 0) - np.ndim(attribution.score) + 1
    if rank != 4 or values.shape[-1] > 4 or isinstance(values, Tracer):
        return None
    maps = maps_of(attribution)
    file = io.BytesIO()
    shown = draw(maps.reshape(-1, *maps.shape[-2:])[:most], title=attribution.method)
    Image.fromarray(to_bytes(shown)).save(file, format="png")
    return file.getvalue()
