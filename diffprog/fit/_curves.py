"""The curves of a fit, as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # an extra brings it, and it takes long to import
    from matplotlib.figure import Figure

    from diffprog._util.files import replacing

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
    FigureCanvasAgg(figure)
    with replacing(path) as file:
        figure.savefig(file, format="png")
    return Path(path)
