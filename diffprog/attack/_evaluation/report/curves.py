"""Accuracy over the budget: as points, as a drawing in the page, and as a PNG file."""

from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np

from diffprog._util.files import replacing
from diffprog.attack._evaluation.report.table import budget_text, norm_text
from diffprog.attack._evaluation.results import Evaluation

MISSING = "curves.png needs matplotlib, which is not installed: pip install 'diffprog[demos]'"
POINTS = 160  # of a curve that is known at every budget
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 380, 52, 52, 14, 16


def points(evaluation: Evaluation, attack: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Trace the accuracy over the budget, from 0 on.

    A search for the smallest perturbation tells the accuracy at every budget; without one, lines join the budgets.

    Args:
        evaluation: What to draw.
        attack: Name of an attack; None for the worst case over all.

    Returns:
        Budgets, and accuracies there.
    """
    budgets = np.concatenate([[0.0], evaluation.epsilons])
    attacks = list(evaluation.records) if attack is None else [attack]
    if any(evaluation.settings["attacks"][name]["search"] != "within budgets" for name in attacks):
        budgets = np.unique(np.concatenate([budgets, np.linspace(0, budgets[-1], POINTS)]))
    accuracies = replace(evaluation, epsilons=budgets).robust_accuracy(attacks)
    accuracies[0] = evaluation.clean_accuracy
    return budgets, accuracies


def ticks(evaluation: Evaluation, min_distance: float) -> list[float]:
    """Choose the budgets to write at the axis, from the right, at least a part of the axis apart."""
    chosen: list[float] = []
    room = min_distance * float(evaluation.epsilons[-1])
    for epsilon in map(float, evaluation.epsilons[::-1]):
        if epsilon >= room and (not chosen or chosen[-1] - epsilon >= room):
            chosen.append(epsilon)
    return chosen[::-1]


def svg(evaluation: Evaluation) -> str:
    """Draw the curves as <svg>: attacks thin, the worst case broad beneath them. The page has the legend."""
    end = float(evaluation.epsilons[-1])
    x_of = lambda budget: LEFT + (WIDTH - LEFT - RIGHT) * budget / end
    y_of = lambda accuracy: HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * accuracy
    parts = [
        f'<g class="level"><path d="M{LEFT} {y_of(level):.1f}H{WIDTH - RIGHT}"/><text x="{LEFT - 8}" '
        f'y="{y_of(level) + 4:.1f}" text-anchor="end">{100 * level:.0f}</text></g>'
        for level in (0, 0.25, 0.5, 0.75, 1)
    ]
    parts += [f'<path class="tick" d="M{x_of(epsilon):.1f} {y_of(0):.1f}v5"/>' for epsilon in evaluation.epsilons]
    for epsilon in ticks(evaluation, 0.13):
        text, anchor = budget_text(evaluation, epsilon), "end" if epsilon == end else "middle"
        parts.append(f'<text x="{x_of(epsilon):.1f}" y="{y_of(0) + 22:.1f}" text-anchor="{anchor}">{text}</text>')
    parts.append(f'<text x="{LEFT}" y="{y_of(0) + 22:.1f}" text-anchor="middle">0</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">budget in '
        f"{norm_text(evaluation.norm)}</text>"
    )
    for index, name in enumerate([None, *evaluation.records], start=-1):
        places = [(x_of(budget), y_of(value)) for budget, value in zip(*points(evaluation, name), strict=True)]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        style = "worst" if name is None else f"c{index % 8}"
        parts.append(f'<path class="curve {style}" d="M{line}"><title>{escape(name or "worst case")}</title></path>')
        if name is not None and len(places) < POINTS:
            parts += [f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>' for x, y in places]
    label = f"accuracy over the budget, from {evaluation.clean_accuracy:.1%} without an attack"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def write_curves(evaluation: Evaluation, path: str | Path) -> None:
    """Write the curves as a PNG; ImportError where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(MISSING) from None

    figure = Figure(figsize=(7.2, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for name in [None, *evaluation.records]:
        budgets, accuracies = points(evaluation, name)
        marker = "o" if name is not None and len(budgets) < POINTS else ""
        style = {"color": "0.78", "linewidth": 7} if name is None else {"linewidth": 1.6}
        axes.plot(budgets, 100 * accuracies, marker=marker, markersize=4, label=name or "worst case", **style)
    written = ticks(evaluation, 0.09)
    axes.set_xticks([0.0, *written], ["0", *(budget_text(evaluation, epsilon) for epsilon in written)])
    axes.set(xlabel=f"budget in {norm_text(evaluation.norm)}", ylabel="accuracy in %", ylim=(0, 101), xlim=(0, None))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as file:
        FigureCanvasAgg(figure).print_png(file)
