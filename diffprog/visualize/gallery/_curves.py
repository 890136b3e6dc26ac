"""The objective over the steps, and its parts, as a small drawing in the page."""

import math
from html import escape

import numpy as np

WIDTH, HEIGHT = 300, 72  # units of the drawing, which is stretched to its place
POINTS = 150  # at most, of each curve


def curves(card):
    """<figure> with a line for the history, one for each part, and the natural maximum dashed; "" without a history."""
    lines = {"objective": card.history, **card.parts} if len(card.history) else {}
    lines = {name: np.asarray(values, float) for name, values in lines.items() if np.any(np.isfinite(values))}
    if not lines:
        return ""
    level = card.scores.get("natural_maximum", math.nan)
    known = np.concatenate([*lines.values(), [level]])
    low, high = np.nanmin(known[np.isfinite(known)]), np.nanmax(known[np.isfinite(known)])
    up = lambda value: round(float(HEIGHT - 3 - (HEIGHT - 6) * (value - low) / ((high - low) or 1)), 1)
    drawn = [f'<path class="level" d="M0 {up(level):g}H{WIDTH}"/>'] if math.isfinite(level) else []
    drawn += [f'<path class="line l{number}" d="{_path(values, up)}"/>' for number, values in enumerate(lines.values())]
    names = [f'<span class="l{number}">{escape(name)}</span>' for number, name in enumerate(lines)]
    names += ['<span class="level">natural maximum</span>'] if math.isfinite(level) else []
    label = f"objective over {len(card.history)} steps, from {card.history[0]:.3g} to {card.history[-1]:.3g}"
    return (
        f'<h3>History</h3><figure class="history"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" '
        f'role="img" aria-label="{label}">{"".join(reversed(drawn))}</svg><figcaption><span>{len(card.history)} '
        f"steps, {low:.3g} to {high:.3g}</span>{''.join(names)}</figcaption></figure>"
    )


def _path(values, up):
    """A line through at most `POINTS` of the values; where one is not known, the line is interrupted."""
    chosen = np.unique(np.linspace(0, len(values) - 1, POINTS).round().astype(int))
    across = WIDTH / max(len(values) - 1, 1)
    text, pen = [], "M"
    for at in chosen:
        if math.isfinite(values[at]):
            text.append(f"{pen}{round(float(at * across), 1):g} {up(values[at]):g}")
            pen = "L"
        else:
            pen = "M"
    return "".join(text)
