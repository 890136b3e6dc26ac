"""Curves of insertion, deletion and their like, averaged over the images, as SVG."""

from html import escape

import numpy as np

from diffprog.attribute._evaluation.results import AttributionEvaluation

WIDTH, HEIGHT, LEFT, BOTTOM = 340, 220, 44, 24
COLORS = 8


def curve_figures(evaluation: AttributionEvaluation) -> str:
    """Draw, for each measure that has curves, one line for each method; and a legend."""
    measures = [
        name for name in evaluation.measures if all(_curve(evaluation, each, name) for each in evaluation.methods)
    ]
    if not measures:
        return '<p class="calm">No measure has a curve.</p>'
    figures = "".join(
        f"<figure>{_svg(evaluation, name)}<figcaption>{escape(name)}</figcaption></figure>" for name in measures
    )
    items = "".join(
        f'<li class="c{index % COLORS}{" dashed" if index >= COLORS else ""}">{escape(name)}</li>'
        for index, name in enumerate(evaluation.methods)
    )
    return f'<div class="plots">{figures}</div><ul class="legend">{items}</ul>'


def _curve(evaluation, method, measure):
    found = evaluation.methods[method].measured[measure]
    return found.curve is not None and found.curve.shape[1] > 1


def _svg(evaluation: AttributionEvaluation, measure: str) -> str:
    lines = {name: record.measured[measure] for name, record in evaluation.methods.items()}
    means = {name: _mean(found.curve) for name, found in lines.items()}
    known = np.concatenate([mean[np.isfinite(mean)] for mean in means.values()])
    low, high = (min(0.0, known.min()), max(known.max(), 1e-9)) if len(known) else (0.0, 1.0)
    first = next(iter(lines.values())).at
    x = lambda at: LEFT + (at - first[0]) / (first[-1] - first[0]) * (WIDTH - LEFT - 8)
    y = lambda value: HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - 8)
    parts = []
    for level in (low, (low + high) / 2, high):
        parts.append(f'<path class="level" d="M{LEFT} {y(level):.1f}H{WIDTH - 8}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(level) + 4:.1f}" text-anchor="end">{level:.2g}</text>')
    for at in (first[0], (first[0] + first[-1]) / 2, first[-1]):
        parts.append(f'<text x="{x(at):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{at:.2g}</text>')
    for index, (name, mean) in enumerate(means.items()):
        points = "L".join(
            f"{x(at):.1f} {y(value):.1f}" for at, value in zip(lines[name].at, mean, strict=True) if np.isfinite(value)
        )
        style = f"curve c{index % COLORS}{' dashed' if index >= COLORS else ''}"
        parts.append(f'<path class="{style}" d="M{points}"><title>{escape(name)}</title></path>')
    label = f"{measure}, mean over the images, of {', '.join(means)}"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _mean(curve: np.ndarray) -> np.ndarray:
    """Average over the images that have a number there."""
    known = np.isfinite(curve)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, curve, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
