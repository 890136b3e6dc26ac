"""A recording in Graphviz's language, for those who have it: clusters by path."""

from typing import TYPE_CHECKING

from diffprog.graph._draw.annotations import MEANINGS, Annotations
from diffprog.graph._draw.figures import label
from diffprog.graph._draw.grouping import Group, group_tree, shown
from diffprog.graph._draw.scale import STEPS
from diffprog.graph._recording.nodes import Edge, Node

if TYPE_CHECKING:
    from diffprog.graph._recording.recording import Recording

COLORS = ("#b4c1d3", "#94abce", "#6e92c6", "#4a79bb", "#315fa5", "#204684", "#122d5c")
MARKED = {
    "nan": 'color="#c4114f" style="bold,dashed" penwidth=3',
    "zero": 'color="#6b7683" style=dotted',
    "unused": 'color="#6b7683" style=dotted arrowhead=empty',
    "blocked": 'color="#a35f00" style=dashed arrowhead=tee',
    "constant": 'color="#c3cad3"',
}


def dot(recording: "Recording", everything: bool = False) -> str:
    """Write a recording in Graphviz's language.

    Args:
      recording: a `Recording`, before or after `backward`.
      everything: whether to draw plain numbers that the program used, and operations whose results go nowhere.

    Returns:
      The text of a file for `dot`; a node's name is "n" and its index.
    """
    nodes = shown(recording, everything)
    tree = group_tree(nodes)
    annotations = Annotations(recording)
    drawn = set(nodes)
    lines = [
        f"digraph {_quoted(recording.function)} {{",
        '  node [shape=box style="rounded,filled" fillcolor=white fontname="monospace" fontsize=10];',
        '  graph [fontname="monospace" fontsize=10 color="#c3cad3"];',
    ]
    stack: list = list(reversed(tree.root.children))
    while stack:
        item = stack.pop()
        if item is None:
            lines.append("  }")
        elif isinstance(item, Group):
            lines.append(f"  subgraph {_quoted(f'cluster_{item.index}')} {{ label={_quoted(item.path)};")
            stack += [None, *reversed(item.children)]
        else:
            lines.append(f"  {_node(item, annotations)}")
    for edge in (edge for node in nodes for edge in node.incoming if edge.source in drawn):
        lines.append(f"  n{edge.source.index} -> n{edge.target.index} [{_line(edge, annotations)}];")
    return "\n".join([*lines, "}"]) + "\n"


def _node(node: Node, annotations: Annotations) -> str:
    said = label(node)
    text = "\n".join(filter(None, [f"{said.name} {said.type}".strip(), *said.lines, annotations.badge_of(node)]))
    look = {"nan": ' fillcolor="#fde7ee" color="#c4114f" penwidth=2', "blocked": ' style="rounded,filled,dashed"'}.get(
        annotations.mark[node], ""
    )
    if node.primitive == "input":
        look += ' fillcolor="#e8f1fb"' if annotations.mark[node] != "nan" else ""
    elif node in annotations.outputs:
        look += " peripheries=2"
    where = " ".join(filter(None, [node.path, str(node.source or "")]))
    return f"n{node.index} [label={_quoted(text)}{look} tooltip={_quoted(where)}];"


def _line(edge: Edge, annotations: Annotations) -> str:
    mark = annotations.edge_mark(edge)
    if mark:
        return f"{MARKED[mark]} tooltip={_quoted(MEANINGS[mark])}"
    size = annotations.edge_size[edge]
    step = annotations.scale.step(size) if annotations.scale else None
    if step is None:
        return ""
    return f'color="{COLORS[step]}" penwidth={1 + 4 * step / (STEPS - 1):.1f} tooltip="|gradient| {size:.4g}"'


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
