"""What drawings say about nodes and edges: sizes of gradients, marks, steps of the scale; each is computed once."""

import math
from functools import cached_property

import numpy as np

from diffprog.graph._draw.grouping import Group
from diffprog.graph._draw.scale import Scale, scale_of
from diffprog.graph._recording.nodes import Edge, Node
from diffprog.graph._recording.summaries import summarize

MARKS = ("nan", "", "zero", "unused", "blocked", "constant")  # of several on one line, the first is shown
BADGES = {"nan": "NaN", "zero": "∂ = 0", "unused": "no ∂", "blocked": "cut"}
MEANINGS = {
    "nan": "not finite (NaN or infinity)",
    "zero": "the gradient is zero everywhere",
    "unused": "no gradient arrives: the output does not depend on it",
    "blocked": "cut: nothing can be differentiated here",
    "constant": "not differentiated",
}


def norm(gradient) -> float | None:
    """Measure the Euclidean length: NaN if some element is not finite, None for None and for what has no numbers."""
    summary = summarize(gradient)
    if summary is None:
        return None
    return math.nan if summary.nonfinite else summary.norm


class Annotations:
    """The annotations of a recording as it is now.

    Attributes:
      differentiated: whether there are gradients.
      outputs: the nodes that made the output.
      mark: each node's mark.
      size: Euclidean length of each node's gradient, all results together; None without one.
      edge_size: Euclidean length of the gradient that came through each edge; None without one.
    """

    def __init__(self, recording):
        nodes = recording.nodes
        self.differentiated = bool(recording.differentiated)
        self.outputs = {place.node for place in recording.outputs if place is not None}
        self.mark = {node: node.mark for node in nodes}
        self.size = {node: _together([norm(g) for g in node.gradients]) for node in nodes}
        self.edge_size = {edge: norm(edge.gradient) for node in nodes for edge in node.incoming}
        self._groups: dict[Group, tuple] = {}

    @cached_property
    def scale(self) -> Scale | None:
        """The scale from the smallest to the largest size; None before `backward`."""
        return scale_of([*self.size.values(), *self.edge_size.values()])

    def mark_of(self, item: Node | Group) -> str:
        """Return a node's mark; for a group, the gravest of its nodes' marks."""
        return self.mark[item] if isinstance(item, Node) else self._of(item)[0]

    def badge_of(self, item: Node | Group) -> str:
        """Return what a box says of its mark; for a group, with the number of its nodes that have it."""
        if isinstance(item, Node):
            return BADGES.get(self.mark[item], "")
        mark, count, _ = self._of(item)
        return f"{count}\N{MULTIPLICATION SIGN} {BADGES[mark]}" if mark else ""

    def size_of(self, item: Node | Group) -> float | None:
        """Return the length of a node's gradient; for a group, the largest finite one, NaN if none is finite."""
        return self.size[item] if isinstance(item, Node) else self._of(item)[2]

    def step_of(self, item: Node | Group) -> int | None:
        """Return the step of the scale of a node's or group's gradient."""
        return self.scale.step(self.size_of(item)) if self.scale else None

    def edge_mark(self, edge: Edge) -> str:
        """Return what a line shows.

        "nan", "zero", "unused" and "" are as in `Node.mark`; "blocked" is a line at which a gradient is cut, "constant"
        one where there is nothing to differentiate.
        """
        if not edge.live:
            return "blocked" if "blocked" in (edge.source.status, edge.target.status) else "constant"
        if not self.differentiated:
            return ""
        size = self.edge_size[edge]
        if size is None:
            return "unused"
        return "nan" if math.isnan(size) else "zero" if size == 0 else ""

    def strongest(self, edges: list[Edge]) -> tuple[str, float | None]:
        """Return mark and size of a line that carries several edges: the first in `MARKS`, the largest gradient."""
        mark = min(map(self.edge_mark, edges), key=MARKS.index)
        return mark, _largest([self.edge_size[edge] for edge in edges])

    def _of(self, group: Group) -> tuple[str, int, float | None]:
        """Mark, how many nodes have it, and size."""
        if group not in self._groups:
            nodes = list(group.nodes())
            marks = [self.mark[node] for node in nodes]
            mark = min(filter(None, marks), key=MARKS.index, default="")
            self._groups[group] = mark, marks.count(mark), _largest([self.size[node] for node in nodes])
        return self._groups[group]


def _together(sizes: list[float | None]) -> float | None:
    known = [size for size in sizes if size is not None]
    return float(np.sqrt(sum(size * size for size in known))) if known else None


def _largest(sizes: list[float | None]) -> float | None:
    known = [size for size in sizes if size is not None]
    return max((size for size in known if math.isfinite(size)), default=math.nan if known else None)
