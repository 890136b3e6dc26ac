"""A landscape as one web page, which needs nothing else: no network, no other file."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffprog._util.files import write_text
from diffprog._util.html_page import fill, html_page, read_asset, script_json
from diffprog.optimize._landscape.shading import shading

if TYPE_CHECKING:
    from diffprog.optimize._landscape.landscape import Landscape

PACKAGE = "diffprog.optimize._landscape"


def html(landscape: "Landscape", path: str | Path | None, title: str) -> str | Path:
    """Write the page; return it, or the path of the file that was written."""
    has_path, is_plane = landscape.path is not None, len(landscape.coordinates) == 2
    body = fill(
        read_asset(PACKAGE, "landscape.html"),
        title=escape(title),
        kind="plane" if is_plane else "line",
        notes="".join(f"<li>{escape(note)}</li>" for note in landscape.notes),
        walk_hidden="" if has_path else "hidden",
        views_hidden="" if is_plane else "hidden",
        data=script_json(page_data(landscape)),
    )
    text = html_page(
        title, body, style=read_asset(PACKAGE, "landscape.css"), script=read_asset(PACKAGE, "landscape.js")
    )
    return text if path is None else write_text(path, text)


def page_data(landscape: "Landscape") -> dict[str, Any]:
    """Return what the page shows, as JSON: numbers that are not finite are null."""
    scale = shading(landscape.values, landscape.scale)
    return {
        "axes": [axis.tolist() for axis in landscape.coordinates],
        "names": list(landscape.directions.names),
        "values": _numbers(np.atleast_2d(landscape.values)),
        "shades": _numbers(np.atleast_2d(scale.shade(landscape.values))),
        "low": scale.low,
        "high": scale.high,
        "scale": scale.words(),
        "levels": scale.levels().tolist() if scale.high > scale.low else [],
        "levelShades": scale.shade(scale.levels()).tolist() if scale.high > scale.low else [],
        "center": _number(landscape.center_value),
        "path": None if landscape.path is None else _numbers(landscape.path),
        "pathValues": None if landscape.path_values is None else [_number(x) for x in landscape.path_values],
        "pathDistances": None if landscape.path_distances is None else [_number(x) for x in landscape.path_distances],
    }


def _numbers(rows: np.ndarray) -> list[list[float | None]]:
    return [[_number(x) for x in row] for row in rows]


def _number(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None
