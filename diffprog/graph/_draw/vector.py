"""A recording as a standalone SVG drawing."""

from collections import Counter
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from diffprog.graph._draw.annotations import MARKS, Annotations, annotations_of
from diffprog.graph._draw.figures import LINE, Label, cut, is_small, label
from diffprog.graph._draw.grouping import BUDGET, Group, Open
from diffprog.graph._draw.layout import Box, Segment, layout

if TYPE_CHECKING:
    from diffprog.graph._recording.recording import Recording

LEGEND = 74.0
MIN_WIDTH = 560.0


def svg(
    recording: "Recording",
    open: Open = None,
    budget: int = BUDGET,
    everything: bool = False,
    credit: Mapping[Any, float] | None = None,
) -> str:
    """Draw a recording as SVG text, light or dark as the reader's system is.

    Args:
      recording: a `Recording`, before or after `backward`.
      open: which groups of nodes are drawn open: None for as many as stay readable, a depth, a glob for paths
        ("MLP/*", "*" for all), or several globs.
      budget: about how many boxes to draw if `open` is None.
      everything: whether to draw plain numbers that the program used, and operations whose results go nowhere.
      credit: numbers of nodes and edges to be drawn by width and color, orange above 0 and blue below, in place of
        gradients.

    Returns:
      The text of an SVG file.

    Raises:
      ValueError: a glob matches no group, or credit is of another recording.
    """
    drawing = layout(recording, open, budget, everything)
    annotations = annotations_of(recording, credit)
    scale = annotations.scale
    segments, marks = [], set()
    for segment in drawing.segments:
        mark, size = annotations.strongest(segment.edges)
        marks.add(mark)
        step = scale.step(size) if scale else None
        segments.append((size or 0.0, mark, _segment(segment, mark, step, annotations.is_positive(segment.edges))))
    # The widest and the marked last, so that nothing hides them.
    segments.sort(key=lambda drawn: (drawn[1] == "nan", drawn[1] == "", drawn[0]))
    marks |= {annotations.mark_of(box.item) for box in drawing.boxes if not isinstance(box.item, Group)}
    width, height = max(drawing.width, MIN_WIDTH), drawing.height + LEGEND
    left = (width - drawing.width) / 2
    title = f"{recording.function}: {len(recording.nodes)} nodes"
    open_boxes = "\n".join(_box(box, annotations) for box in drawing.boxes if box.open)
    boxes = "\n".join(_box(box, annotations) for box in drawing.boxes if not box.open)
    headers = "\n".join(_header(box.item, box) for box in drawing.boxes if box.open and isinstance(box.item, Group))
    lines = "\n".join(text for _, _, text in segments)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" class="drawing" role="img" aria-labeledby="title description" \
viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">
<title id="title">{_text(title)}</title>
<desc id="description">{_text(_description(drawing, annotations))}</desc>
<style>
{style()}</style>
<rect width="100%" height="100%" fill="var(--paper)"/>
<g transform="translate({left:.1f} 0)">
{open_boxes}
{lines}
{headers}
{boxes}
</g>
{_legend(drawing.height, annotations, marks)}
</svg>
"""


def style() -> str:
    """Read the stylesheet that drawings and the page share."""
    return (files("diffprog.graph._draw") / "page" / "drawing.css").read_text(encoding="utf-8")


def _text(text: str) -> str:
    """Escape a text, and replace the control characters that XML does not have."""
    return escape("".join(c if c >= " " or c in "\t\n" else "\N{REPLACEMENT CHARACTER}" for c in text))


def _description(drawing, annotations: Annotations) -> str:
    names = [box.item.name for box in drawing.boxes if isinstance(box.item, Group)]
    groups = f" Groups: {', '.join(names[:12])}." if names else ""
    counts = Counter(annotations.mark.values())
    said = [mark for mark in MARKS[:-1] if mark and counts[mark]]
    marked = "".join(f" {counts[mark]} nodes: {annotations.meanings[mark]}." for mark in said)
    return f"The computation runs downward, its gradients upward along the same lines.{groups}{marked}"


def _segment(segment: Segment, mark: str, step: int | None, is_positive: bool) -> str:
    kind = mark or (f"s{step}" if step is not None else "") + (" plus" if is_positive else "")
    parts = [f'<path class="line" d="{curve(segment.points)}"/>']
    if segment.ends:
        parts.append(f'<path class="tip" d="{tip(segment.points[-1], mark)}"/>')
    return f'<g class="segment {kind}">{"".join(parts)}</g>'


def _box(box: Box, annotations: Annotations) -> str:
    item = box.item
    kinds = ["box", annotations.mark_of(item)]
    if isinstance(item, Group):
        kinds += ["group", "opened" if box.open else ""]
    else:
        kinds += [
            item.primitive if item.primitive == "input" else "",
            "small" if is_small(item) else "",
            "output" if item in annotations.outputs else "",
        ]
    parts = [f"<title>{_text(_hint(item))}</title>"]
    frame = f'width="{box.width:.1f}" height="{box.height:.1f}" rx="{11 if "input" in kinds else 5}"'
    if isinstance(item, Group) and not box.open:
        parts.append(f'<rect class="under" x="3" y="3" {frame}/>')
    parts.append(f'<rect class="frame" {frame}/>')
    step = annotations.step_of(item)
    if step is not None and not box.open:
        kind = f"strip s{step}" + (" plus" if annotations.is_positive([item]) else "")
        parts.append(f'<rect class="{kind}" x="3.5" y="5" width="4" height="{box.height - 10:.1f}" rx="2"/>')
    if not box.open:
        parts += _said(label(item))
        parts.append(_badge(annotations.badge_of(item), box.width))
    where = f"data-group={quoteattr(item.path)}" if isinstance(item, Group) else f'data-node="{item.index}"'
    position = f'transform="translate({box.x:.1f} {box.y:.1f})"'
    return f'<g class="{" ".join(filter(None, kinds))}" {where} {position}>{"".join(parts)}</g>'


def _said(said: Label):
    x, y = (8, 12.5) if said.small else (13, 15.0)
    kind = f' <tspan class="more">{_text(said.type)}</tspan>' if said.type else ""
    yield f'<text class="name" x="{x}" y="{y}">{_text(said.name)}{kind}</text>'
    for number, line in enumerate(said.lines, 1):
        yield f'<text class="more" x="{x}" y="{y + LINE * number:.1f}">{_text(line)}</text>'


def _header(group: Group, box: Box) -> str:
    """Draw the name of an open group, over the lines that run across it."""
    position = f'transform="translate({box.x:.1f} {box.y:.1f})"'
    return f'<g class="header" {position}><text x="13" y="15">{_text(group.name)}</text></g>'


def _badge(text: str, right: float) -> str:
    if not text:
        return ""
    width = len(text) * 6.2 + 10
    return (
        f'<g class="badge" transform="translate({right - width + 8:.1f} -11.5)">'
        f'<rect width="{width:.1f}" height="15" rx="7.5"/>'
        f'<text x="{width / 2:.1f}" y="11">{_text(text)}</text></g>'
    )


def _hint(item) -> str:
    """Say what the pointer tells over a box."""
    if isinstance(item, Group):
        return f"{item.path}: {item.size} nodes"
    where = f"\n{item.source}  {cut(item.source.text, 100)}" if item.source else ""
    return f"{item.index} {item.label} ({item.primitive})" + (f"\n{item.path}" if item.path else "") + where


def _legend(top: float, annotations: Annotations, marks: set) -> str:
    """Draw what width, color and dash mean; of the marks, those that occur."""
    parts, x, scale = [], 14.0, annotations.scale
    if scale is not None:
        steps = (0, 3, 6) if scale.high > scale.low else (3,)
        labels = {0: f"{scale.low:.2g}", 3: "", 6: f"{scale.high:.2g}"} if len(steps) > 1 else {3: f"{scale.high:.2g}"}
        parts.append(f'<text x="{x}" y="20">{annotations.quantity}</text>')
        x += 74
        for step in steps:
            parts.append(f'<g class="segment s{step}"><path class="line" d="M{x} 16h30"/></g>')
            x += 36
            if labels[step]:
                parts.append(f'<text x="{x}" y="20">{labels[step]}</text>')
                x += 58
        if annotations.quantity != Annotations.quantity:
            parts.append(f'<g class="segment s4 plus"><path class="line" d="M{x} 16h30"/></g>')
            parts.append(f'<text x="{x + 36}" y="20">above 0</text>')
    x, y = 14.0, 40.0
    for mark in MARKS:
        if mark in marks and mark:
            meaning = annotations.meanings[mark]
            length = 40 + 6.8 * len(meaning)
            if x > 14 and x + length > MIN_WIDTH:
                x, y = 14.0, y + 17
            parts.append(f'<g class="segment {mark}"><path class="line" d="M{x} {y - 4}h26"/></g>')
            parts.append(f'<text x="{x + 32}" y="{y}">{meaning}</text>')
            x += length + 14
    return f'<g class="legend" transform="translate(0 {top:.1f})">{"".join(parts)}</g>'


# ---------------------------------------------------------------- lines


def curve(points) -> str:
    """Draw the path through a segment's points: straight where x stays, else a bend that is vertical at both ends."""
    (x, y), *rest = points
    path = [f"M{_short(x)} {_short(y)}"]
    for next_x, next_y in rest:
        if next_x == x:
            path.append(f"V{_short(next_y)}")
        else:
            middle = _short((y + next_y) / 2)
            path.append(f"C{_short(x)} {middle} {_short(next_x)} {middle} {_short(next_x)} {_short(next_y)}")
        x, y = next_x, next_y
    return "".join(path)


def tip(point, mark: str) -> str:
    """Draw the end of a line at a box: an arrow, or a bar where the gradient is cut."""
    x, y = point
    if mark == "blocked":
        return f"M{_short(x - 6)} {_short(y - 3)}h12v2.5h-12z"
    return f"M{_short(x - 4.5)} {_short(y - 8)}h9L{_short(x)} {_short(y)}z"


def _short(x: float) -> str:
    return f"{x:.1f}".removesuffix(".0")
