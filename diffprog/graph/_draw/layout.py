"""The whole drawing: boxes and the segments of lines between them, open groups one inside the other."""

from dataclasses import dataclass

from diffprog.graph._draw.coordinates import Placed, place
from diffprog.graph._draw.figures import label
from diffprog.graph._draw.grouping import BUDGET, Group, GroupTree, group_tree, shown
from diffprog.graph._draw.layering import Arrangement, arrangements
from diffprog.graph._recording.nodes import Edge, Node

Point = tuple[float, float]


@dataclass(eq=False)
class Box:
    """Where a node or group is drawn; y grows downward. A group is `open` if its members are drawn inside it."""

    item: Node | Group
    x: float
    y: float
    width: float
    height: float
    open: bool = False


@dataclass(eq=False)
class Segment:
    """A part of a bundle's line, from where it begins or branches to where it branches or ends.

    Attributes:
      points: from one to the next it is straight where x stays, else a bend that is vertical at both ends.
      edges: those that run through it.
      ends: whether it ends at a box, with an arrow.
    """

    points: list[Point]
    edges: list[Edge]
    ends: bool


@dataclass(eq=False)
class Layout:
    """A drawing: its size, its boxes and its lines, in pixels."""

    width: float
    height: float
    boxes: list[Box]
    segments: list[Segment]


def layout(recording, open=None, budget: int = BUDGET, everything: bool = False) -> Layout:
    """Lay out a recording; `open` and `budget` as in `GroupTree.opened`, `everything` as in `shown`."""
    nodes = shown(recording, everything)
    tree = group_tree(nodes)
    return lay_out(tree, arrangements(tree, nodes), tree.opened(open, budget))


def lay_out(tree: GroupTree, arranged: dict[Group, Arrangement], opened: set[Group]) -> Layout:
    """Place the arranged groups that are open, one inside the other."""
    placed: dict[Group, Placed] = {}

    def size(item):
        return (placed[item].width, placed[item].height) if item in placed else label(item).size

    def entry(item, bundle):
        return placed[item].entries[bundle] - placed[item].width / 2 if item in placed else 0.0

    def exit(item, bundle):
        return placed[item].exits[bundle] - placed[item].width / 2 if item in placed else 0.0

    visible = [group for group in tree.groups if all(g in opened for g in group.above())]
    for group in reversed(visible):  # what is inside comes later in the list
        placed[group] = place(arranged[group], size, entry, exit)

    whole = Layout(placed[tree.root].width, placed[tree.root].height, [], [])
    corner = {tree.root: (0.0, 0.0)}
    for group in visible:
        drawn = _Group(arranged[group], placed[group], corner[group], size, entry, exit, placed.__contains__)
        for box in drawn.boxes():
            box.open = box.item in placed
            corner[box.item] = box.x, box.y
            whole.boxes.append(box)
        whole.segments += drawn.segments()
    return whole


class _Group:
    """An open group in its place."""

    def __init__(self, arrangement, placed, corner, size, entry, exit, is_open):
        self.arrangement, self.placed, self.corner = arrangement, placed, corner
        self.size, self.entry, self.exit, self.is_open = size, entry, exit, is_open

    def boxes(self):
        left, _ = self.corner
        for vertex in (s for layer in self.arrangement.layers for s in layer if s.kind == "member"):
            width, height = self.size(vertex.item)
            yield Box(
                vertex.item, left + self.placed.x[vertex] - width / 2, self._middle(vertex) - height / 2, width, height
            )

    def segments(self):
        vertices = [vertex for layer in self.arrangement.layers for vertex in layer]
        members = {vertex.item: vertex for vertex in vertices if vertex.kind == "member"}
        others = {(vertex.kind, vertex.bundle, vertex.layer): vertex for vertex in vertices if vertex.kind != "member"}
        for bundle in self.arrangement.bundles:
            yield from self._of(bundle, members, others)

    def _of(self, bundle, members, others):
        """Follow a trunk layer by layer, and cut it where lines branch off."""
        start = members[bundle.start] if bundle.start is not None else others["in", bundle.above, 0]
        ends = [(members[end], edges) for end, edges in bundle.ends.items()]
        if bundle.leaving:
            ends.append((others["out", bundle.below, len(self.arrangement.layers) - 1], bundle.leaving))
        vertex, points = start, [self._below(start, bundle)]
        while ends:
            here = [end for end in ends if end[0].layer == vertex.layer + 1]
            further = [end for end in ends if end[0].layer > vertex.layer + 1]
            if here and vertex is not start and len(ends) > 1 and len(points) > 1:
                yield Segment(points, [edge for _, edges in ends for edge in edges], False)
                points = points[-1:]
            for end, edges in here:
                into_box = end.kind == "member" and not self.is_open(end.item)
                yield Segment(points + self._turn(points[-1], vertex, end, bundle), edges, into_box)
            if further:
                dummy = others["dummy", bundle, vertex.layer + 1]
                points = points + self._turn(points[-1], vertex, dummy, bundle)
                points.append((points[-1][0], self.corner[1] + self.placed.bottoms[dummy.layer]))
                vertex = dummy
            ends = further

    def _turn(self, point, upper, lower, bundle):
        """Go on from `point`: down to the upper layer's border, over to the lower layer's, into the box."""
        left, top = self.corner
        x = left + self.placed.x[lower] + (self.entry(lower.item, bundle) if lower.kind == "member" else 0.0)
        turned = [(point[0], top + self.placed.bottoms[upper.layer]), (x, top + self.placed.tops[lower.layer])]
        if lower.kind == "member":
            turned.append((x, self._middle(lower) - self.size(lower.item)[1] / 2))
        return [b for a, b in zip([point, *turned], turned, strict=False) if a != b]

    def _middle(self, vertex):
        return self.corner[1] + (self.placed.tops[vertex.layer] + self.placed.bottoms[vertex.layer]) / 2

    def _below(self, vertex, bundle) -> Point:
        x = self.corner[0] + self.placed.x[vertex]
        if vertex.kind != "member":
            return x, self.corner[1]
        return x + self.exit(vertex.item, bundle), self._middle(vertex) + self.size(vertex.item)[1] / 2
