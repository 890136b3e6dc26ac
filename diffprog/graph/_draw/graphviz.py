"""A recording in Graphviz's language, for those who have it: clusters by path."""

from diffprog.graph._draw.annotations import MEANINGS, Facts
from diffprog.graph._draw.figures import label
from diffprog.graph._draw.grouping import Group, outline, shown
from diffprog.graph._draw.scale import STEPS
from diffprog.graph._recording.nodes import Edge, Node

COLORS = ("#b4c1d3", "#94abce", "#6e92c6", "#4a79bb", "#315fa5", "#204684", "#122d5c")
MARKED = {
    "nan": 'color="#c4114f" style="bold,dashed" penwidth=3',
    "zero": 'color="#6b7683" style=dotted',
    "unused": 'color="#6b7683" style=dotted arrowhead=empty',
    "blocked": 'color="#a35f00" style=dashed arrowhead=tee',
    "constant": 'color="#c3cad3"',
}


def dot(recording, everything: bool = False) -> str:
    """The recording as Graphviz text; `everything` as in `svg`. A node's name is "n" and its index."""
    nodes = shown(recording, everything)
    tree = outline(nodes)
    facts = Facts(recording)
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
            lines.append(f"  {_node(item, facts)}")
    for edge in (edge for node in nodes for edge in node.incoming if edge.source in drawn):
        lines.append(f"  n{edge.source.index} -> n{edge.target.index} [{_line(edge, facts)}];")
    return "\n".join([*lines, "}"]) + "\n"


def _node(node: Node, facts: Facts) -> str:
    said = label(node)
    text = "\n".join(filter(None, [f"{said.name} {said.type}".strip(), *said.lines, facts.badge_of(node)]))
    look = {"nan": ' fillcolor="#fde7ee" color="#c4114f" penwidth=2', "blocked": ' style="rounded,filled,dashed"'}.get(
        facts.mark[node], ""
    )
    if node.primitive == "input":
        look += ' fillcolor="#e8f1fb"' if facts.mark[node] != "nan" else ""
    elif node in facts.outputs:
        look += " peripheries=2"
    where = " ".join(filter(None, [node.path, str(node.source or "")]))
    return f"n{node.index} [label={_quoted(text)}{look} tooltip={_quoted(where)}];"


def _line(edge: Edge, facts: Facts) -> str:
    mark = facts.edge_mark(edge)
    if mark:
        return f"{MARKED[mark]} tooltip={_quoted(MEANINGS[mark])}"
    size = facts.edge_size[edge]
    step = facts.scale.step(size) if facts.scale else None
    if step is None:
        return ""
    return f'color="{COLORS[step]}" penwidth={1 + 4 * step / (STEPS - 1):.1f} tooltip="|gradient| {size:.4g}"'


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
