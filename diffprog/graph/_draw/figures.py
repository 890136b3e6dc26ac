"""Values and gradients in few characters, and what a box says."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from diffprog.graph._draw.grouping import NOT_COMPUTED, Group
from diffprog.graph._recording.nodes import Node
from diffprog.graph._recording.summaries import Summary, summarize

_KINDS = {"f": "f", "i": "i", "u": "u", "c": "c", "V": "v"}
LINE, CHARACTER = 15.0, 6.7  # height of a line of text, width of a character of the fixed-width font, in pixels


def type_text(aval: Any) -> str:
    """Write type and shape, "f32[2,3]"; "" for what has none."""
    dtype, shape = getattr(aval, "dtype", None), getattr(aval, "shape", None)
    if dtype is None or shape is None:
        return "" if aval is None else str(aval)
    try:
        dtype = np.dtype(dtype)
        name = f"{_KINDS[dtype.kind]}{dtype.itemsize * 8}" if dtype.name[0] in "fiuc" else dtype.name
    except TypeError:
        name = str(dtype)  # keys and other types that NumPy does not know
    return f"{name}[{','.join(map(str, shape))}]"


def number(x: Any) -> str:
    """Write four digits of a number."""
    x = np.asarray(x).item() if not isinstance(x, (int, float, complex, bool)) else x
    if isinstance(x, (bool, int)):
        return str(x)
    return f"{x:.4g}"


def brief(value: Any, max_elements: int = 4) -> str:
    """Write a small array's numbers; of a larger one, or a summary, mean and deviation; "" for None."""
    if value is None:
        return ""
    if not isinstance(value, Summary):
        if isinstance(value, (bool, int, float, complex)):
            return number(value)
        size = getattr(value, "size", None)
        if size is not None and 0 < size <= max_elements and _has_numbers(value):
            return numbers(np.asarray(value))
    summary = summarize(value)
    if summary is None:
        return ""
    if not summary.size:
        return "empty"
    if summary.size == 1 and not summary.nonfinite:
        return number(summary.mean)
    text = f"{summary.mean:.3g} ± {summary.std:.2g}"
    return f"{text}, {_share(summary.nonfinite)} not finite" if summary.nonfinite else text


def _has_numbers(array) -> bool:
    """Not so keys, of which JAX makes arrays too."""
    return isinstance(getattr(array, "dtype", None), np.dtype) and array.dtype.kind in "biufc"


def _share(x: float) -> str:
    return f"{x:.0%}" if x >= 0.005 else "some"


def numbers(array: np.ndarray) -> str:
    """Write all of a small array, nested as in Python."""
    if array.ndim == 0:
        return number(array.item())
    return "[" + ", ".join(numbers(row) for row in array) + "]"


def is_small(node: Node) -> bool:
    """Whether a node is drawn as one line: no gradient concerns it, and the user did not pass it in."""
    return node.status == "constant" and node.primitive != "input"


@dataclass(frozen=True)
class Label:
    """What a box says.

    Attributes:
      name: its first line.
      type: stands beside the name.
      lines: value and gradient (with a leading ∂).
      small: whether it is one line alone.
      room: number of characters kept free behind the name.
    """

    name: str
    type: str
    lines: tuple[str, ...] = ()
    small: bool = False
    room: int = 0

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the box around it, in pixels."""
        first = len(self.name) + self.room + (len(self.type) + 1 if self.type else 0)
        width = max([first, *map(len, self.lines)]) * CHARACTER + (16 if self.small else 24)
        return width, LINE * (1 + len(self.lines)) + (6 if self.small else 11)


def label(item: Node | Group) -> Label:
    """Say what the box of a node or group contains."""
    if isinstance(item, Group):
        inside = f"{item.size} nodes{_leaving(item)}"
        return Label(cut(item.name, 34), "", (inside.ljust(14),), room=3)  # for the sign that opens it
    types = ", ".join(type_text(aval) for aval in item.avals[:2]) + (", …" if len(item.avals) > 2 else "")
    value = brief(item.values[0]) if item.values else ""
    if is_small(item):
        said = value if value and len(value) <= 24 and "±" not in value else types
        return Label(name_of(item, 24), cut(said, 24), (), True)
    gradient = brief(item.gradients[0]) if item.gradients else ""
    return Label(
        name_of(item, 30), cut(types, 24), tuple(cut(x, 40) for x in (value, gradient and f"∂ {gradient}") if x)
    )


def _leaving(group: Group) -> str:
    """Write the type of a group's result, if it is one array."""
    inside = set(group.nodes())
    leaving = {
        (node, edge.output)
        for node in inside
        if node.primitive not in NOT_COMPUTED
        for edge in node.outgoing
        if edge.target not in inside
    }
    if len(leaving) != 1:
        return ""
    ((node, output),) = leaving
    return cut(f" → {type_text(node.avals[output])}", 26)


def name_of(node: Node, max_characters: int) -> str:
    """Write a node's label after the variable that it is, if any.

    Of an input's long label the end is kept, which tells the parameters of one layer apart.
    """
    if node.variable is not None:
        return cut(f"{node.variable} = {node.label}", max_characters)
    if node.primitive == "input" and len(node.label) > max_characters:
        return "…" + node.label[1 - max_characters :]
    return cut(node.label, max_characters)


def cut(text: str, max_characters: int) -> str:
    """Shorten a text, and end it in an ellipsis if that was necessary."""
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"
