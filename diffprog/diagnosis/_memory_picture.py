"""What a compiled program holds, as an SVG drawing: the curve over time, and bars for the lines at the peak."""

from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

import numpy as np

from diffprog._jax_internals.compiled_memory import PHASES
from diffprog._rules.budget.search import in_words
from diffprog._util.html_page import read_asset

if TYPE_CHECKING:
    from diffprog.diagnosis._memory import MemoryReport, MemoryRow

WIDTH, LEFT, RIGHT = 920.0, 70.0, 20.0
PLOT = WIDTH - LEFT - RIGHT
CURVE = 190.0  # height
STRIP = 7.0  # height of the strip that says which pass is running
_COLUMNS = 860  # of the curve, at most: as many as there are pixels
_BARS = 10  # lines at the peak
_ROW = 34.0
_LABELS = 330.0  # width of the lines' names beside the bars
_LABEL = 44  # characters of a name, in the font of the code, which are 6.7 wide
_MEANINGS = {
    "forward": "made by the forward pass",
    "backward": "made by the backward pass",
    "recomputed": "computed again by the backward pass",
}


class Bar(NamedTuple):
    """A line of the program at the peak.

    Attributes:
      rows: what is held for it, one for each phase; of the last bar, for all further lines.
      name: the line and its function.
      text: the line itself.
    """

    rows: "Sequence[MemoryRow]"
    name: str
    text: str

    @property
    def bytes(self) -> int:
        """What is held for it in total."""
        return sum(row.bytes for row in self.rows)


def svg(report: "MemoryReport") -> str:
    """Draw a report as SVG text, light or dark as the reader's system is; a plan below what it was made from."""
    reports = [r for r in (report.plain, report) if r is not None]
    top = max(max(r.temporary, r.peak) for r in reports)
    top = max(top, report.budget or 0, 1)
    largest = max((bar.bytes for r in reports for bar in bars(r)), default=1)
    used = [phase for phase in PHASES if any(phase in {s.phase for s in r.spans} for r in reports)]
    parts, y = [f'<g transform="translate(0 14)">{_legend(used, report.budget)}</g>'], 58.0 if used else 24.0
    for r in reports:
        drawn, height = _panel(r, top, largest, report.budget)
        parts.append(f'<g transform="translate(0 {y:.1f})">{drawn}</g>')
        y += height + 26
    height = y - 20
    return f"""<svg xmlns="http://www.w3.org/2000/svg" class="memory" role="img" aria-labelledby="title description" \
viewBox="0 0 {WIDTH:.0f} {height:.0f}" width="{WIDTH:.0f}" height="{height:.0f}">
<title id="title">{_text(report.program)}: memory over time</title>
<desc id="description">{_text(str(report))}</desc>
<style>
{read_asset("diffprog.diagnosis", "memory.css")}</style>
<rect width="100%" height="100%" fill="var(--paper)"/>
{"".join(parts)}
</svg>
"""


def _text(text: str) -> str:
    """Escape a text, and replace the control characters that XML does not have."""
    return escape("".join(c if c >= " " or c in "\t\n" else "\N{REPLACEMENT CHARACTER}" for c in text))


def _panel(report: "MemoryReport", top: int, largest: int, budget: int | None) -> tuple[str, float]:
    """Draw one program: title, curve up to `top` bytes, bars up to `largest`; return the drawing and its height."""
    title = report.program + which(report, budget is not None)
    parts = [
        f'<text class="title" x="20" y="8">{_text(cut(title, 62))}: {in_words(report.temporary)}</text>',
        f'<text class="quiet" x="20" y="26">{_text(beside(report))}</text>',
    ]
    y = 44.0
    if report.spans:
        parts.append(f'<g transform="translate(0 {y})">{_curve(report, top, budget)}</g>')
        y += CURVE + STRIP + 50
        parts.append(f'<text class="quiet" x="20" y="{y}">held at the peak, by line:</text>')
        y += 24
        parts.append(f'<g transform="translate(0 {y})">{"".join(_bars(report, largest))}</g>')
        y += len(bars(report)) * _ROW
    for note in report.notes:
        for line in _wrapped(note, 125):
            y += 16
            parts.append(f'<text class="quiet" x="20" y="{y:.1f}">{_text(line)}</text>')
    return "".join(parts), y


def beside(report: "MemoryReport") -> str:
    """Say what is there besides the temporary memory."""
    parts = [f"arguments ({in_words(report.arguments)})", f"results ({in_words(report.results)})"]
    if report.constants > 0.01 * report.temporary:
        parts.append(f"constants ({in_words(report.constants)})")
    return f"besides {', '.join(parts[:-1])} and {parts[-1]}"


def which(report: "MemoryReport", has_budget: bool) -> str:
    """Say which of two reports this is, where there is one without and one with a budget."""
    if not has_budget:
        return ""
    return ", without a budget" if report.plain is None else ", within its budget"


# ---------------------------------------------------------------- the curve


def columns(report: "MemoryReport") -> np.ndarray:
    """Choose the instructions that are drawn: of each stretch of a long program, the one that holds most."""
    held = report.over_time.sum(1)
    stretches = np.array_split(np.arange(len(held)), min(_COLUMNS, len(held)))
    return np.array([stretch[held[stretch].argmax()] for stretch in stretches])


def _curve(report: "MemoryReport", top: int, budget: int | None) -> str:
    chosen, num = columns(report), len(report.running)
    held = report.over_time[chosen]
    edges = np.linspace(LEFT, LEFT + PLOT, len(chosen) + 1)
    height = lambda num_bytes: CURVE - num_bytes / (1.08 * top) * CURVE
    parts = [f'<rect x="{LEFT}" y="0" width="{PLOT}" height="{CURVE}" fill="none" pointer-events="all"/>']
    parts += _ticks(top, height)
    below = np.zeros(len(chosen))
    for i, phase in enumerate(PHASES):
        above = below + held[:, i]
        if held[:, i].any():
            parts.append(f'<path class="{phase}" d="{_area(edges, height(below), height(above))}"/>')
        below = above
    for start, stop, phase in _runs([report.running[i] for i in chosen]):
        x, width = edges[start], edges[stop] - edges[start]
        parts.append(f'<rect class="{phase}" x="{x:.1f}" y="{CURVE + 4}" width="{width:.2f}" height="{STRIP}"/>')
    under = CURVE + STRIP + 18
    parts.append(f'<path class="axis" d="M{LEFT} {CURVE}h{PLOT}"/>')
    parts.append(f'<text class="quiet" x="{LEFT}" y="{under}">start</text>')
    parts.append(f'<text class="quiet" x="{LEFT + PLOT}" y="{under}" text-anchor="end">end</text>')
    parts.append(
        f'<text class="quiet" x="{LEFT + PLOT / 2}" y="{under}" text-anchor="middle">'
        f"{num} instruction{'s' * (num != 1)} in the order in which they run (the strip: which pass is running)</text>"
    )
    parts += _marks(report, chosen, edges, height, budget)
    return f'<g class="curve" data-plot="{LEFT} {PLOT} 0 {CURVE}">{"".join(parts)}</g>'


def _marks(report, chosen, edges, height, budget: int | None) -> Iterator[str]:
    """Draw the budget's line and the peak's, and say what they are."""
    column = int(np.searchsorted(chosen, report.peak_at, side="right") - 1)
    x, y = (edges[column] + edges[column + 1]) / 2, height(report.peak)
    if budget is not None:
        at_budget = height(budget)
        yield f'<path class="budget" d="M{LEFT} {at_budget:.1f}h{PLOT}"/>'
        side = LEFT + PLOT - 4 if x < LEFT + PLOT / 2 else LEFT + 4
        anchor = "end" if x < LEFT + PLOT / 2 else "start"
        label = f"memory= allows {in_words(budget)}"
        yield f'<text class="over halo" x="{side}" y="{at_budget - 5:.1f}" text-anchor="{anchor}">{label}</text>'
    yield f'<path class="peak" d="M{x:.1f} {y:.1f}V{CURVE}"/>'
    anchor, shift = ("start", 5) if x < LEFT + PLOT - 130 else ("end", -5)
    label = f"peak: {in_words(report.peak)}"
    yield f'<text class="halo" x="{x + shift:.1f}" y="{y - 5:.1f}" text-anchor="{anchor}">{label}</text>'


def _ticks(top: int, height) -> Iterator[str]:
    """Draw lines at round numbers of bytes."""
    unit = next(size for size in (2**30, 2**20, 2**10, 1) if top >= size)
    rough = top / unit / 4
    step = 10 ** np.floor(np.log10(rough))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= rough * 0.999)
    for i in range(int(1.08 * top / unit / step) + 1):
        num_bytes = i * step * unit
        y, label = height(num_bytes), in_words(num_bytes) if i else "0"
        yield f'<path class="grid" d="M{LEFT} {y:.1f}h{PLOT}"/>'
        yield f'<text class="quiet" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'


def _area(edges, lower, upper) -> str:
    """Draw the path around the area between two stairs, over the stretches between these edges."""
    there = f"{_stairs(edges, upper)}H{edges[-1]:.1f}"
    return f"M{edges[0]:.1f} {lower[0]:.1f}{there}{_stairs(edges[::-1], lower[::-1])}H{edges[0]:.1f}Z"


def _stairs(edges, heights) -> str:
    """Draw a path along stairs that are this high from each edge to the next."""
    steps, at_height = [], ""
    for x, y in zip(edges[:-1], heights, strict=True):
        if f"{y:.1f}" != at_height:
            at_height = f"{y:.1f}"
            steps.append(f"H{x:.1f}V{at_height}")
    return "".join(steps)


def _runs(values: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    start = 0
    for i in range(1, len(values) + 1):
        if i == len(values) or values[i] != values[start]:
            yield start, i, values[start]
            start = i


# ---------------------------------------------------------------- the bars


def bars(report: "MemoryReport") -> list[Bar]:
    """Sum up the rows by line, the largest first; beyond the first ten lines in one bar."""
    by_line: dict[Hashable, list[MemoryRow]] = {}
    for row in report.rows:
        by_line.setdefault(line_of(row), []).append(row)
    found = [
        Bar(rows, _name(rows[0]), rows[0].source.text if rows[0].source else rows[0].operation)
        for rows in by_line.values()
    ]
    found.sort(key=lambda bar: -bar.bytes)
    if len(found) > _BARS + 1:
        others = found[_BARS:]
        found = [*found[:_BARS], Bar([row for bar in others for row in bar.rows], f"{len(others)} more lines", "")]
    return found


def line_of(row: "MemoryRow") -> Hashable:
    """Tell the lines of rows apart, those of files of the same name too."""
    return (row.source.file, row.source.line) if row.source else row.operation


def _name(row: "MemoryRow") -> str:
    """Write where a row's line is, without its function if there is no room for that."""
    return row.where if row.source is None or len(row.where) <= _LABEL else str(row.source)


def _bars(report: "MemoryReport", largest: int) -> Iterator[str]:
    room = WIDTH - RIGHT - _LABELS - 110
    scale = room / largest
    for i, bar in enumerate(bars(report)):
        y = i * _ROW
        parts = [
            f"<title>{_text(bar.name)}: {in_words(bar.bytes)}\n{_text(bar.text)}</title>",
            f'<text class="mono" x="20" y="{y + 2:.1f}">{_text(cut(bar.name, _LABEL, front=True))}</text>',
            f'<text class="mono quiet" x="20" y="{y + 16:.1f}">{_text(cut(bar.text, _LABEL))}</text>',
            f'<rect class="track" x="{_LABELS}" y="{y - 7:.1f}" width="{room:.1f}" height="22" rx="2"/>',
        ]
        x = _LABELS
        for phase in PHASES:
            width = scale * sum(row.bytes for row in bar.rows if row.phase == phase)
            if width:
                parts.append(f'<rect class="{phase}" x="{x:.1f}" y="{y - 7:.1f}" width="{width:.1f}" height="22"/>')
                x += width
        part = f'<tspan class="quiet" dx="6">{_text(share(bar.bytes, report.peak))}</tspan>'
        parts.append(f'<text x="{_LABELS + room + 10:.1f}" y="{y + 8:.1f}">{in_words(bar.bytes)}{part}</text>')
        yield f"<g>{''.join(parts)}</g>"


def share(part: int, total: int) -> str:
    """Write a part of a total in percent."""
    percent = 100 * part / max(total, 1)
    return f"{percent:.0f}%" if percent >= 0.5 or not part else "<1%"


def cut(text: str, length: int, front: bool = False) -> str:
    """Shorten a text to so many characters, at its end or in front."""
    if len(text) <= length:
        return text
    return f"…{text[len(text) - length + 1 :]}" if front else f"{text[: length - 1]}…"


def _legend(phases: Sequence[str], budget: int | None) -> str:
    parts, x = [], 20.0
    for phase in phases:
        parts.append(f'<rect class="{phase}" x="{x}" y="0" width="14" height="14" rx="2"/>')
        parts.append(f'<text x="{x + 20}" y="11">{_MEANINGS[phase]}</text>')
        x += 40 + 6.6 * len(_MEANINGS[phase])
    if budget is not None:
        parts.append(f'<path class="budget" d="M{x} 7h26"/><text x="{x + 32}" y="11">the budget</text>')
    return "".join(parts)


def _wrapped(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        if len(line) + len(word) >= width:
            yield line
            line = ""
        line = f"{line} {word}".strip()
    yield line
