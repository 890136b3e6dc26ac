"""Landscapes as PNG files and films, drawn with Matplotlib."""

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from diffprog._util.files import replacing
from diffprog._util.numbers import check_count, check_positive
from diffprog.optimize._landscape.shading import shading

if TYPE_CHECKING:
    from diffprog.optimize._landscape.landscape import Landscape

MISSING = "pictures of landscapes need matplotlib, which is not installed: pip install 'diffprog[demos]'"
FORMATS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG"}
PATH, LAST = "#ff7a1a", "#ffffff"


def png(landscape: "Landscape", path: str | Path | None, title: str, width: int) -> bytes | Path:
    """Draw a landscape with its whole path."""
    canvas, axes = _figure(landscape, title, check_count(width, "width", least=100))
    if landscape.path is not None:
        _draw_path(landscape, axes, len(landscape.path))
    file = io.BytesIO()
    canvas.print_png(file)
    if path is None:
        return file.getvalue()
    with replacing(path) as whole:
        whole.write(file.getvalue())
    return Path(path)


def animation(
    landscape: "Landscape", path: str | Path, title: str, width: int, max_frames: int, frames_per_second: float
) -> Path:
    """Draw the path as it grows."""
    path = Path(path)
    if landscape.path is None:
        raise ValueError("an animation shows a path: call landscape with path=, the parameters along a run")
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"path must end in {', '.join(FORMATS)}; found {path.name!r}")
    check_positive(frames_per_second, "frames_per_second")
    canvas, axes = _figure(landscape, title, check_count(width, "width", least=100))
    count = len(landscape.path)
    shown = np.unique(np.linspace(1, count, min(count, check_count(max_frames, "max_frames"))).astype(int))
    frames = []
    for end in shown:
        drawn = _draw_path(landscape, axes, int(end))
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))
        for artist in drawn:
            artist.remove()
    times = [round(1000 / frames_per_second)] * (len(frames) - 1) + [1000]
    if path.suffix.lower() == ".gif":
        palette = _palette(frames[-1])
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with replacing(path) as file:
        frames[0].save(
            file, format=FORMATS[path.suffix.lower()], save_all=True, append_images=frames[1:], duration=times, loop=0
        )
    return path


def _palette(frame: Image.Image) -> Image.Image:
    """Choose one palette for a film, so that nothing flickers, with the colors of the path, which are few pixels."""
    colors = frame.quantize(254).getpalette()
    assert colors is not None
    path = [int(color[i : i + 2], 16) for color in (PATH, LAST) for i in (1, 3, 5)]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colors[: 3 * 254] + path)
    return palette


def _figure(landscape: "Landscape", title: str, width: int) -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(MISSING) from None

    is_plane = len(landscape.coordinates) == 2
    figure = Figure(figsize=(7.2, 6.0 if is_plane else 4.4), dpi=width / 7.2, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    (_plane if is_plane else _line)(landscape, figure, axes)
    if title:
        axes.set_title(title, fontsize=12, loc="left")
    notes = "\n".join(_wrapped(note) for note in landscape.notes)
    if notes:
        figure.supxlabel(notes, fontsize=7.5, color="#555555", x=0.01, ha="left")
    return FigureCanvasAgg(figure), axes


def _wrapped(text: str, width: int = 118) -> str:
    return "\n".join(textwrap.wrap(text, width))


def _plane(landscape: "Landscape", figure: Any, axes: Any) -> None:
    x, y = landscape.coordinates
    scale = shading(landscape.values, landscape.scale)
    shades = np.ma.masked_invalid(scale.shade(landscape.values))
    axes.set_facecolor("#bbbbbb")  # where a value is not finite
    image = axes.pcolormesh(x, y, shades, cmap="viridis", vmin=0, vmax=1, shading="gouraud", rasterized=True)
    levels = scale.levels()
    if scale.high > scale.low:
        heights = np.ma.masked_invalid(scale.height(landscape.values))
        axes.contour(x, y, heights, levels=scale.height(levels), colors="white", linewidths=0.6, alpha=0.6)
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    ticks = np.concatenate([[scale.low], levels[2::4], [scale.high]])
    bar.set_ticks(scale.shade(ticks), labels=[f"{value:.3g}" for value in ticks])
    bar.set_label(f"objective, {scale.words()}", fontsize=9)
    axes.plot([0], [0], marker="+", color="white", markersize=12, markeredgewidth=1.5)
    axes.set(xlabel=landscape.directions.names[0], ylabel=landscape.directions.names[1])
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))


def _line(landscape: "Landscape", figure: Any, axes: Any) -> None:
    (x,) = landscape.coordinates
    axes.plot(x, landscape.values, color="#31688e", linewidth=1.8)
    axes.plot([0], [landscape.center_value], marker="o", color="#b4470f", markersize=5)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel=landscape.directions.names[0], ylabel="objective", xlim=(x[0], x[-1]))


def _draw_path(landscape: "Landscape", axes: Any, end: int) -> list[Any]:
    assert landscape.path is not None
    points = landscape.path[:end]
    if points.shape[1] == 1:
        points = np.column_stack([points[:, 0], np.interp(points[:, 0], landscape.coordinates[0], landscape.values)])
    (line,) = axes.plot(*points.T, color=PATH, linewidth=2, marker="o", markersize=2.5, zorder=3)
    (head,) = axes.plot(*points[-1:].T, color=PATH, marker="o", markersize=7, markeredgecolor=LAST, zorder=4)
    return [line, head]
