"""What the page knows of a recording: JSON for page/*.js."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffprog.graph._draw.annotations import Annotations, annotations_of
from diffprog.graph._draw.arrays import shown
from diffprog.graph._draw.figures import Label, brief, cut, label, type_text
from diffprog.graph._draw.grouping import BUDGET, Group, GroupTree, group_tree
from diffprog.graph._draw.grouping import shown as shown_nodes
from diffprog.graph._draw.layering import Arrangement, arrangements
from diffprog.graph._explain.formulas import formula
from diffprog.graph._recording.nodes import Edge, Node
from diffprog.graph._recording.summaries import Summary
from diffprog.graph._selection.selectors import pattern

MAX_PARAMETER_TEXT = 160


def page_data(
    recording,
    open=None,
    budget: int = BUDGET,
    everything: bool = False,
    step_size: float | None = None,
    update="*",
    credit: Mapping[Any, float] | None = None,
) -> dict:
    """Describe a recording for JSON.

    Nodes and edges are named by their positions in the lists, members of groups as "n12" and "g3". Arguments are those
    of `html`.
    """
    nodes = shown_nodes(recording, everything)
    tree = group_tree(nodes)
    annotations = annotations_of(recording, credit)
    arranged = arrangements(tree, nodes)
    updated = _updated(nodes, update) if step_size is not None else set()
    page = _Page(annotations, nodes, tree, arranged, step_size, updated)
    opened = tree.opened(open, budget)
    return {
        "title": recording.function,
        "notes": list(recording.notes),
        "differentiated": bool(recording.differentiated),
        "step": step_size,
        "hidden": len(recording.nodes) - len(nodes),
        "scale": [annotations.scale.low, annotations.scale.high] if annotations.scale else None,
        "quantity": annotations.quantity,
        "meanings": annotations.meanings,
        "nodes": [page.node(node) for node in nodes],
        "edges": [page.edge(edge) for edge in page.edges],
        "groups": [page.group(group, arranged[group], group in opened) for group in tree.groups],
        "sources": page.sources,
    }


def _updated(nodes: list[Node], update: str | list[str]) -> set[Node]:
    """Choose the inputs whose labels match a glob."""
    inputs, updated = [node for node in nodes if node.primitive == "input"], set()
    for glob in [update] if isinstance(update, str) else update:
        fits = pattern(glob)
        fitting = {node for node in inputs if fits(node.label)}
        if not fitting:
            names = [node.label for node in inputs]
            close = difflib.get_close_matches(glob, names, 3, 0.3) or names[:5]
            raise ValueError(f"update={glob!r} matches no input; the nearest are {', '.join(map(repr, close))}")
        updated |= fitting
    return updated


class _Page:
    """The parts of the page's data."""

    def __init__(
        self, annotations: Annotations, nodes: list[Node], tree: GroupTree, arranged: dict, step_size, updated: set
    ):
        self.annotations, self.tree, self.step_size, self.updated = annotations, tree, step_size, updated
        self.position = {node: i for i, node in enumerate(nodes)}
        self.edges: list[Edge] = [e for node in nodes for e in node.incoming if e.source in self.position]
        self.bundle_position = {bundle: i for one in arranged.values() for i, bundle in enumerate(one.bundles)}
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
            "mark": self.annotations.mark[node],
            "badge": self.annotations.badge_of(node),
            "step": self.annotations.step_of(node),
            "plus": self.annotations.is_positive([node]),
            "size": _rounded(self.annotations.size[node]),
            "group": self.tree.group_of[node.index].index,
            "output": node in self.annotations.outputs,
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
            "params": [[str(k), cut(" ".join(str(v).split()), MAX_PARAMETER_TEXT)] for k, v in node.params.items()],
            "formula": None if rule is None else [rule.forward, _gradients(node, rule.backward)],
            "source": self._source(node),
        }

    def _update(self, node: Node) -> dict | None:
        """Describe the value of an input after one step down its gradient."""
        if node not in self.updated or not node.gradients or node.gradients[0] is None:
            return None
        value, gradient = node.values[0], node.gradients[0]
        if value is None or isinstance(value, Summary) or isinstance(gradient, Summary):
            return None
        return shown(np.asarray(value) - np.asarray(self.step_size, value.dtype) * np.asarray(gradient))

    def _source(self, node: Node) -> int | None:
        """Return the position of a node's line among the page's sources, None without one."""
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
        size = self.annotations.edge_size[edge]
        return {
            "source": self.position[edge.source],
            "output": edge.output,
            "target": self.position[edge.target],
            "argument": edge.argument,
            "mark": self.annotations.edge_mark(edge),
            "plus": self.annotations.is_positive([edge]),
            "size": _rounded(size),
            "step": self.annotations.scale.step(size) if self.annotations.scale else None,
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
            "mark": self.annotations.mark_of(group),
            "badge": self.annotations.badge_of(group),
            "step": self.annotations.step_of(group),
            "plus": self.annotations.is_positive([group]),
            "count": group.size,
            "lines": list(said.lines),
            "w": width,
            "h": height,
            "layers": [[self._vertex(vertex) for vertex in layer] for layer in arrangement.layers],
            "bundles": [self._bundle(bundle) for bundle in arrangement.bundles],
        }

    def _item(self, item) -> str:
        return f"g{item.index}" if isinstance(item, Group) else f"n{self.position[item]}"

    def _vertex(self, vertex) -> str:
        if vertex.kind == "member":
            return self._item(vertex.item)
        return f"{vertex.kind[0]}{self.bundle_position[vertex.bundle]}"

    def _bundle(self, bundle) -> list:
        """Describe a bundle as [start, [[end, its edges] ...]].

        A start or end outside the group is the number of a bundle of the group around.
        """
        ends: list[tuple[str | int, list[Edge]]] = [(self._item(end), edges) for end, edges in bundle.ends.items()]
        if bundle.leaving:
            ends.append((self.bundle_position[bundle.below], bundle.leaving))
        numbered = [[end, [self.edge_position[edge] for edge in edges]] for end, edges in ends]
        return [self.bundle_position[bundle.above] if bundle.start is None else self._item(bundle.start), numbered]


def _gradients(node: Node, backward: tuple[str, ...]) -> list[str]:
    """Write the gradient of each operand that gets one, under the operand's name in formulas."""
    live = sorted({edge.argument for edge in node.incoming if edge.live})
    names = ["xyw"[i] if i < 3 else f"x{i}" for i in live]
    return [f"∂{name} = {text}" for name, text in zip(names, backward, strict=False)]


def _rounded(size: float | None) -> float | None:
    """Round to four digits; None for NaN, which JSON does not have."""
    return None if size is None or not np.isfinite(size) else float(f"{size:.4g}")


def _short(file: str) -> str:
    """Shorten a path: from the working directory, or the last two parts for a file elsewhere."""
    relative = os.path.relpath(file)
    return relative if not relative.startswith("..") else "/".join(Path(file).parts[-2:])
