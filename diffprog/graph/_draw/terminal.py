"""A recording as a tree of text lines for a terminal."""

import shutil
from collections.abc import Iterator
from math import isnan
from typing import TYPE_CHECKING

from diffprog.graph._draw.annotations import Annotations
from diffprog.graph._draw.figures import brief, cut, label, number, type_text
from diffprog.graph._draw.grouping import Group, GroupTree, Open, group_tree, shown
from diffprog.graph._recording.nodes import Node

if TYPE_CHECKING:
    from diffprog.graph._recording.recording import Recording

LINES = 200
WIDEST_NAME = 56
TITLES = ("node", "from", "type", "value", "|∂|", "line", "")
CUT_HERE = "\0"  # in a name: where it loses characters first; an input's end tells it from others
MIN_WIDTHS = (32, 6, 10, 14, 8, 12, 6)  # to which the columns shrink, in characters
DROPPED_FIRST = (5, 1, 3, 2)  # the columns that go, one after the other, where even that is too wide


def text(
    recording: "Recording",
    open: Open = None,
    budget: int = LINES,
    everything: bool = False,
    width: int | None = None,
    color: bool = False,
) -> str:
    """Write a recording as a tree: per node label, operands, type, value, length of its gradient, line and mark.

    Args:
      recording: a `Recording`, before or after `backward`.
      open: which groups are spelled out: None for as many as leave about `budget` lines, a depth, a glob for paths
        ("MLP/*", "*" for all), or several globs.
      budget: about how many lines to write if `open` is None.
      everything: whether to show plain numbers that the program used, and operations whose results go nowhere.
      width: width of the lines, in characters; by default the terminal's. Where it is too narrow, columns are left out.
      color: whether to color marks, by ANSI codes.

    Returns:
      The lines, as one text.

    Raises:
      ValueError: a glob matches no group.
    """
    nodes = shown(recording, everything)
    tree = group_tree(nodes)
    rows = [TITLES, *_rows(tree, tree.opened(open, budget), Annotations(recording))]
    width = width or shutil.get_terminal_size((110, 24)).columns
    lines = _table(rows, width)
    hidden = len(recording.nodes) - len(nodes)
    first = f"{recording.function}: {len(recording.nodes)} nodes" + (f", {hidden} not shown" if hidden else "")
    lines = [cut(first, width), *lines, *(cut(note, width) for note in recording.notes)]
    return "\n".join(_colored(line) if color else line for line in lines)


def _rows(tree: GroupTree, opened: set[Group], annotations: Annotations) -> Iterator[tuple[str, ...]]:
    stack = [(child, "", i == 0) for i, child in enumerate(reversed(tree.root.children))]
    while stack:
        item, indent, last = stack.pop()
        name = indent + ("└─ " if last else "├─ ")
        if isinstance(item, Node):
            yield (name + _name(item), *_columns(item, annotations))
            continue
        is_open = item in opened
        if not is_open:
            inside, _, made = label(item).lines[0].strip().partition(" → ")
            yield (
                f"{name}{item.name}  ({inside})",
                "",
                made,
                "",
                _largest(item, annotations),
                "",
                annotations.badge_of(item),
            )
        else:
            yield name + item.name, "", "", "", "", "", ""
            below = indent + ("   " if last else "│  ")
            stack.extend((child, below, i == 0) for i, child in enumerate(reversed(item.children)))


def _largest(group: Group, annotations: Annotations) -> str:
    size = annotations.size_of(group)
    return "" if size is None else "nan" if isnan(size) else f"≤ {number(size)}"


def _name(node: Node) -> str:
    variable = f"{node.variable} = " if node.variable else ""
    return f"{node.index} {CUT_HERE if node.primitive == 'input' else ''}{variable}{node.label}"


def _columns(node: Node, annotations: Annotations) -> tuple[str, ...]:
    size = annotations.size[node]
    return (
        ",".join(str(edge.source.index) for edge in node.incoming[:4]) + (",…" if len(node.incoming) > 4 else ""),
        ", ".join(type_text(aval) for aval in node.avals[:2]) + (", …" if len(node.avals) > 2 else ""),
        brief(node.values[0]) if node.values else "",
        "" if size is None else number(size),
        str(node.source) if node.source else "",
        annotations.badge_of(node),
    )


def _table(rows: list[tuple[str, ...]], width: int) -> list[str]:
    """Align columns, two spaces apart, in at most `width` characters."""
    columns = [i for i in range(len(TITLES)) if i == 0 or any(row[i] for row in rows[1:])]
    droppable = [i for i in DROPPED_FIRST if i in columns]
    widths = {i: max(len(row[i].replace(CUT_HERE, "")) for row in rows) for i in columns}
    widths[0] = min(widths[0], WIDEST_NAME)
    smallest = lambda: sum(min(MIN_WIDTHS[i], widths[i]) + 2 for i in columns) - 2
    while smallest() > width and droppable:
        columns.remove(droppable.pop(0))
    while (excess := sum(widths[i] + 2 for i in columns) - 2 - width) > 0:
        ample = [i for i in columns if widths[i] > MIN_WIDTHS[i]] or columns
        widest = max(ample, key=widths.__getitem__)
        if widths[widest] <= 4:
            break
        widths[widest] -= 1 if excess < 8 else min(excess // 4, max(1, widths[widest] - MIN_WIDTHS[widest]))
    return ["  ".join(_fitted(row[i], widths[i]).ljust(widths[i]) for i in columns).rstrip() for row in rows]


def _fitted(cell: str, width: int) -> str:
    before, mark, after = cell.partition(CUT_HERE)
    room = width - len(before) - 1
    if not mark or len(before + after) <= width or room < 1:
        return cut(before + after, width)
    return f"{before}…{after[-room:]}"


def _colored(line: str) -> str:
    for sign, code in (("NaN", "1;31"), ("cut", "33"), ("∂ = 0", "2"), ("no ∂", "2")):
        if line.endswith(sign):
            return f"\x1b[{code}m{line}\x1b[0m"
    return line
