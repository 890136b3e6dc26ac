"""What the page knows of a recording: JSON for page/*.js."""

import difflib
import os
from pathlib import Path

import numpy as np

from diffprog.graph._draw.annotations import MEANINGS, Facts
from diffprog.graph._draw.arrays import shown
from diffprog.graph._draw.figures import Label, brief, cut, label, type_text
from diffprog.graph._draw.grouping import BUDGET, Group, Outline, outline
from diffprog.graph._draw.grouping import shown as shown_nodes
from diffprog.graph._draw.layering import Arrangement, arrangements
from diffprog.graph._explain.formulas import formula
from diffprog.graph._recording.nodes import Edge, Node
from diffprog.graph._recording.summaries import Summary
from diffprog.graph._selection.selectors import pattern

MOST_PARAMETER_TEXT = 160


def page_data(
    recording, open=None, budget: int = BUDGET, everything: bool = False, step_size: float | None = None, update="*"
) -> dict:
    """A dict for JSON. Nodes and edges are named by their positions in its lists, items of groups "n12" and "g3"."""
    nodes = shown_nodes(recording, everything)
    tree = outline(nodes)
    facts = Facts(recording)
    arranged = arrangements(tree, nodes)
    arranged = arrangements(tree, nodes)
    updated = _updated(nodes, update) if step_size is not None else set()
    page = _Page(facts, nodes, tree, arranged, step_size, updated)
    opened = tree.opened(open, budget)
    return {
        "title": recording.function,
        "notes": list(recording.notes),
        "differentiated": bool(recording.differentiated),
        "step": step_size,
        "hidden": len(recording.nodes) - len(nodes),
        "scale": [facts.scale.low, facts.scale.high] if facts.scale else None,
        "meanings": MEANINGS,
        "nodes": [page.node(node) for node in nodes],
        "edges": [page.edge(edge) for edge in page.edges],
        "groups": [page.group(group, arranged[group], group in opened) for group in tree.groups],
        "sources": page.sources,
    }


def _updated(nodes: list[Node], update: str | list[str]) -> set[Node]:
    """The inputs whose labels fit."""
    inputs, found = [node for node in nodes if node.primitive == "input"], set()
    for glob in [update] if isinstance(update, str) else update:
        fits = pattern(glob)
        fitting = {node for node in inputs if fits(node.label)}
        if not fitting:
            names = [node.label for node in inputs]
            close = difflib.get_close_matches(glob, names, 3, 0.3) or names[:5]
            raise ValueError(f"update={glob!r} matches no input; the nearest are {', '.join(map(repr, close))}")
        found |= fitting
    return found


class _Page:
    def __init__(self, facts: Facts, nodes: list[Node], tree: Outline, arranged: dict, step_size, updated: set):
        self.facts, self.tree, self.step_size, self.updated = facts, tree, step_size, updated
        self.position = {node: i for i, node in enumerate(nodes)}
        self.edges: list[Edge] = [e for node in nodes for e in node.incoming if e.source in self.position]
        self.net_position = {net: i for one in arranged.values() for i, net in enumerate(one.nets)}
        self.edge_position = {edge: i for i, edge in enumerate(self.edges)}
        self.sources: list[dict] = []
        self.source_position: dict = {}

    def node(self, node: Node) -> dict:
        update = self._update(node)
        said = label(node)
        if update is not None:
            said = Label(said.name, said.type, (*said.lines, cut(f"→ {update['brief']}", 40)), said.small)
        width, height = said.size
        rule = formula(node)
        return {
            "index": node.index,
            "label": node.label,
            "primitive": node.primitive,
            "path": node.path,
            "status": node.status,
            "mark": self.facts.mark[node],
            "badge": self.facts.badge_of(node),
            "step": self.facts.step_of(node),
            "size": _rounded(self.facts.size[node]),
            "group": self.tree.home[node.index].index,
            "output": node in self.facts.outputs,
            "name": said.name,
            "type": said.type,
            "lines": list(said.lines),
            "small": said.small,
            "w": width,
            "h": height,
            "values": [
                shown(x, aval) or {"type": type_text(aval)} for x, aval in zip(node.values, node.avals, strict=True)
            ],
            "gradients": [shown(g) for g in node.gradients],
            "update": update,
            "params": [[str(k), cut(" ".join(str(v).split()), MOST_PARAMETER_TEXT)] for k, v in node.params.items()],
            "formula": None if rule is None else [rule.forward, _gradients(node, rule.backward)],
            "source": self._source(node),
        }

    def _update(self, node: Node) -> dict | None:
        """The value of an input after one step down its gradient."""
        if node not in self.updated or not node.gradients or node.gradients[0] is None:
            return None
        value, gradient = node.values[0], node.gradients[0]
        if value is None or isinstance(value, Summary) or isinstance(gradient, Summary):
            return None
        return shown(np.asarray(value) - np.asarray(self.step_size, value.dtype) * np.asarray(gradient))

    def _source(self, node: Node) -> int | None:
        """Position of its line among the page's sources."""
        source = node.source
        if source is None:
            return None
        key = (source.file, source.line, source.function, source.callers)
        if key not in self.source_position:
            self.source_position[key] = len(self.sources)
            self.sources.append(
                {
                    "where": str(source),
                    "file": _short(source.file),
                    "line": source.line,
                    "function": source.function,
                    "context": [[n, cut(text, 200)] for n, text in source.context()],
                    "callers": [f"{caller}  {cut(caller.text, 120)}" for caller in source.callers[:6]],
                }
            )
        return self.source_position[key]

    def edge(self, edge: Edge) -> dict:
        size = self.facts.edge_size[edge]
        return {
            "source": self.position[edge.source],
            "output": edge.output,
            "target": self.position[edge.target],
            "argument": edge.argument,
            "mark": self.facts.edge_mark(edge),
            "size": _rounded(size),
            "step": self.facts.scale.step(size) if self.facts.scale else None,
            "gradient": brief(edge.gradient),
        }

    def group(self, group: Group, arrangement: Arrangement, is_open: bool) -> dict:
        said = label(group)
        width, height = said.size
        return {
            "name": group.name,
            "path": group.path,
            "parent": None if group.parent is None else group.parent.index,
            "open": is_open,
            "mark": self.facts.mark_of(group),
            "badge": self.facts.badge_of(group),
            "step": self.facts.step_of(group),
            "count": group.size,
            "lines": list(said.lines),
            "w": width,
            "h": height,
            "layers": [[self._spot(spot) for spot in layer] for layer in arrangement.layers],
            "nets": [self._net(net) for net in arrangement.nets],
        }

    def _item(self, item) -> str:
        return f"g{item.index}" if isinstance(item, Group) else f"n{self.position[item]}"

    def _spot(self, spot) -> str:
        if spot.kind == "member":
            return self._item(spot.item)
        return f"{spot.kind[0]}{self.net_position[spot.net]}"

    def _net(self, net) -> list:
        """[where it begins, or the net of the group around that it comes from, [[where it ends, its edges] ...]]; where
        it ends too is a member or the number of a net of the group around."""
        ends = [(self._item(end), edges) for end, edges in net.ends.items()]
        if net.leaving:
            ends.append((self.net_position[net.below], net.leaving))
        numbered = [[end, [self.edge_position[edge] for edge in edges]] for end, edges in ends]
        return [self.net_position[net.above] if net.start is None else self._item(net.start), numbered]


def _gradients(node: Node, backward: tuple[str, ...]) -> list[str]:
    """Per operand that gets a gradient what that is, under the operand's name in formulas."""
    live = sorted({edge.argument for edge in node.incoming if edge.live})
    names = ["xyw"[i] if i < 3 else f"x{i}" for i in live]
    return [f"∂{name} = {text}" for name, text in zip(names, backward, strict=False)]


def _rounded(size: float | None) -> float | None:
    """Four digits; JSON has no NaN."""
    return None if size is None or not np.isfinite(size) else float(f"{size:.4g}")


def _short(file: str) -> str:
    """The path from the working directory; of a file elsewhere, the last two parts."""
    relative = os.path.relpath(file)
    return relative if not relative.startswith("..") else "/".join(Path(file).parts[-2:])
