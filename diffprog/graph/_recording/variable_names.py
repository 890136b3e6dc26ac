"""Name the values of a recording as the program does."""

import ast
import linecache
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from diffprog.graph._recording.nodes import Node

if TYPE_CHECKING:
    from diffprog.graph._recording.recording import Recording


def note_variables(nodes: list[Node]):
    """Set the `variable` of the nodes whose value the program assigns to one."""
    last: dict = {}  # (line, iteration of a loop) -> the last operation there, whose result the variable is
    for node in nodes:
        if node.source is not None and node.tap is None:
            last[node.source.file, node.source.line, node.iteration] = node
    for (file, line, _), node in last.items():
        node.variable = assigned_variable(file, line)


def name_nodes(recording: "Recording") -> dict[Node, str]:
    """Name each node: as its input, its tap or the variable that its line assigns, else by v and its index.

    The output is called as the function is. Values that share a name are numbered: h#1, h#2.
    """
    wanted: dict[Node, str] = {}
    for node in recording.nodes:
        if node.primitive in ("input", "constant") or node.tap is not None:
            wanted[node] = node.label
        elif node.variable is not None:
            wanted[node] = node.variable + "".join(f"[{i}]" for i in node.iteration)
    places = [place for place in recording.outputs if place is not None]
    if len(places) == 1:
        wanted.setdefault(places[0].node, recording.function if recording.function.isidentifier() else "L")
    shared = Counter(wanted.values())
    seen: Counter = Counter()
    names = {}
    for node in recording.nodes:
        name = wanted.get(node, f"v{node.index}")
        if shared[name] > 1:
            seen[name] += 1
            name = f"{name}#{seen[name]}"
        names[node] = name
    return names


@cache
def assigned_variable(file: str, line: int) -> str | None:
    """Find the variable that a line assigns, if it assigns one."""
    text = linecache.getline(file, line).strip()
    try:
        (statement,) = ast.parse(text).body
    except (SyntaxError, ValueError):
        return None
    if not isinstance(statement, ast.Assign) or isinstance(statement.value, ast.Lambda) or len(statement.targets) != 1:
        return None
    return getattr(statement.targets[0], "id", None)
