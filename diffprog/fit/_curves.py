"""The curves of a fit, and of a learning-rate range test, as pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from diffprog.fit._rate_range import RateRange

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BESIDE = ("step", "epoch", "examples", "evaluations", "seconds")


def save_curves(history: Sequence[dict[str, Any]], path: str | Path) -> Path:
    """Draw a panel for losses, one for the gradient's norm, and one for each other value.

    Args:
      history: rows of a fit.
      path: of the PNG.

    Returns:
      The path.
    """
    from matplotlib.figure import Figure  # an extra brings it, and it takes long to import

    names = list(dict.fromkeys(name for row in history for name in row if name not in BESIDE))
    panels: dict[str, list[str]] = {}
    for name in names:
        panels.setdefault(name.removeprefix("averaged_").removeprefix("validation_"), []).append(name)
    figure = Figure(figsize=(4.2 * max(len(panels), 1), 3.4), dpi=120, layout="constrained", facecolor="white")
    for axes, (title, members) in zip(np.ravel(figure.subplots(1, max(len(panels), 1))), panels.items(), strict=False):
        for name, color in zip(members, COLORS, strict=False):
            points = np.array([(row["step"], row[name]) for row in history if row.get(name) is not None], float)
            points = points[np.isfinite(points).all(axis=1)]
            if name in ("loss", "gradient_norm") and len(points) > 200:
                axes.plot(*points.T, color=color, alpha=0.25, linewidth=0.7)
                points = np.stack([chunk.mean(axis=0) for chunk in np.array_split(points, 100)])
            axes.plot(*points.T, color=color, label=name.replace("_", " "), marker="." if len(points) < 30 else None)
        axes.set(title=title.replace("_", " "), xlabel="step")
        if all(row[name] > 0 for row in history for name in members if name in row):
            axes.set_yscale("log")
        if len(members) > 1:
            axes.legend()
        axes.grid(alpha=0.3)
    return _saved(figure, path)


def save_rates(found: "RateRange", path: str | Path) -> Path:
    """Draw the losses of a learning-rate range test over the rates.

    Args:
      found: what the test found.
      path: of the PNG.

    Returns:
      The path.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.8), dpi=120, layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.plot(found.rates, found.losses, color=COLORS[0], alpha=0.3, linewidth=0.8, label="loss of a batch")
    axes.plot(found.rates, found.smoothed, color=COLORS[0], linewidth=1.8, label="running mean")
    marks = {"falls fastest": found.steepest, "lowest": found.lowest_at, "suggestion": found.suggestion}
    for (name, rate), color in zip(marks.items(), COLORS[1:], strict=False):
        axes.axvline(rate, color=color, linestyle="--", linewidth=1.2, label=f"{name}: {rate:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return _saved(figure, path)


def _saved(figure: Any, path: str | Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from diffprog._util.files import replacing

    FigureCanvasAgg(figure)
    with replacing(path) as file:
        figure.savefig(file, format="png")
    return Path(path)
