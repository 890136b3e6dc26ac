"""What drawings say about nodes and edges: sizes of gradients, marks, steps of the scale; each is computed once."""

import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

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
ROUNDING = 1e-9  # credit that is smaller than this part of the largest is none
CREDIT_DECADES = 3


def norm(gradient) -> float | None:
    """Measure the Euclidean length: NaN if some element is not finite, None for None and for what has no numbers."""
    summary = summarize(gradient)
    if summary is None:
        return None
    return math.nan if summary.nonfinite else summary.norm


class Annotations:
    """The annotations of a recording as it is now.

    Attributes:
      quantity: what sizes are of.
      meanings: of the marks.
      differentiated: whether there are gradients.
      outputs: the nodes that made the output.
      mark: each node's mark.
      size: Euclidean length of each node's gradient, all results together; None without one.
      edge_size: Euclidean length of the gradient that came through each edge; None without one.
    """

    quantity = "|gradient|"
    meanings: Mapping[str, str] = MEANINGS

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

    def is_positive(self, items: Iterable[Node | Group | Edge]) -> bool:
        """Whether the largest of these is credit above 0; lengths are no credit."""
        return False

    def _of(self, group: Group) -> tuple[str, int, float | None]:
        """Mark, how many nodes have it, and size."""
        if group not in self._groups:
            nodes = list(group.nodes())
            marks = [self.mark[node] for node in nodes]
            mark = min(filter(None, marks), key=MARKS.index, default="")
            self._groups[group] = mark, marks.count(mark), _largest([self.size[node] for node in nodes])
        return self._groups[group]


class CreditAnnotations(Annotations):
    """The credit of an attribution in place of gradients: sizes are absolute values.

    Attributes:
      credit: per node and edge; others have none.
    """

    quantity = "|credit|"
    meanings: Mapping[str, str] = {"nan": MEANINGS["nan"], "constant": "no credit"}

    def __init__(self, recording, credit: Mapping[Any, float]):
        """Look at a recording.

        Args:
          recording: a `Recording`.
          credit: number per node and edge.
        """
        super().__init__(recording)
        self.differentiated = True
        largest = max((abs(x) for x in credit.values() if math.isfinite(x)), default=0.0)
        self.credit = {item: x for item, x in credit.items() if not abs(x) <= ROUNDING * largest}
        sizes = lambda items: {item: abs(self.credit[item]) if item in self.credit else None for item in items}
        self.size, self.edge_size = sizes(recording.nodes), sizes(recording.edges)
        self.mark = {node: "nan" if _is_nan(self.size[node]) else "" for node in recording.nodes}

    @cached_property
    def scale(self) -> Scale | None:
        """The scale of credit, which tells fewer decades apart than that of gradients."""
        return scale_of([*self.size.values(), *self.edge_size.values()], CREDIT_DECADES)

    def edge_mark(self, edge: Edge) -> str:
        """Return "" for a line with credit, "constant" for one without, "nan" for one whose credit is not finite."""
        size = self.edge_size[edge]
        return "constant" if size is None else "nan" if _is_nan(size) else ""

    def is_positive(self, items: Iterable[Node | Group | Edge]) -> bool:
        """Whether the largest credit among these is above 0."""
        single = [x for item in items for x in (item.nodes() if isinstance(item, Group) else [item])]
        return max((self.credit.get(item, 0.0) for item in single), key=abs, default=0.0) > 0


def annotations_of(recording, credit: Mapping[Any, float] | None) -> Annotations:
    """Annotate a recording by its gradients, or by credit if that is given.

    Raises:
      ValueError: credit is given for what is no node or edge of the recording.
    """
    if credit is None:
        return Annotations(recording)
    known = {*recording.nodes, *recording.edges}
    strange = next((item for item in credit if item not in known), None)
    if strange is not None:
        raise ValueError(f"credit is a number for each node or edge of this recording; found one for {strange!r}")
    return CreditAnnotations(recording, credit)


def _is_nan(size: float | None) -> bool:
    return size is not None and not math.isfinite(size)


def _together(sizes: list[float | None]) -> float | None:
    known = [size for size in sizes if size is not None]
    return float(np.sqrt(sum(size * size for size in known))) if known else None


def _largest(sizes: list[float | None]) -> float | None:
    known = [size for size in sizes if size is not None]
    return max((size for size in known if math.isfinite(size)), default=math.nan if known else None)
