"""The whole drawing: boxes and the strands of lines between them, with the open groups one inside the other."""

from dataclasses import dataclass

from diffprog.graph._draw.coordinates import Placed, place
from diffprog.graph._draw.figures import label
from diffprog.graph._draw.grouping import BUDGET, Group, Outline, outline, shown
from diffprog.graph._draw.layering import Arrangement, arrangements
from diffprog.graph._recording.nodes import Edge, Node

Point = tuple[float, float]


@dataclass(eq=False)
class Box:
    """Where a node or group is drawn; y grows downward. `open` is true of a group whose members are drawn inside it."""

    item: Node | Group
    x: float
    y: float
    width: float
    height: float
    open: bool = False


@dataclass(eq=False)
class Strand:
    """A line from a node's results, or a bundle of such, from where it begins or branches to where it branches or ends.

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
    width: float
    height: float
    boxes: list[Box]
    strands: list[Strand]


def layout(recording, open=None, budget: int = BUDGET, everything: bool = False) -> Layout:
    """A layered drawing of a recording. `open` and `budget` as in `Outline.opened`, `everything` as in `shown`."""
    nodes = shown(recording, everything)
    tree = outline(nodes)
    return lay_out(tree, arrangements(tree, nodes), tree.opened(open, budget))


def lay_out(tree: Outline, arranged: dict[Group, Arrangement], opened: set[Group]) -> Layout:
    placed: dict[Group, Placed] = {}

    def size(item):
        return (placed[item].width, placed[item].height) if item in placed else label(item).size

    def entry(item, net):
        return placed[item].entries[net] - placed[item].width / 2 if item in placed else 0.0

    def exit(item, net):
        return placed[item].exits[net] - placed[item].width / 2 if item in placed else 0.0

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
        whole.strands += drawn.strands()
    return whole


class _Group:
    """An open group in its place."""

    def __init__(self, arrangement, placed, corner, size, entry, exit, is_open):
        self.arrangement, self.placed, self.corner = arrangement, placed, corner
        self.size, self.entry, self.exit, self.is_open = size, entry, exit, is_open

    def boxes(self):
        left, _ = self.corner
        for spot in (s for layer in self.arrangement.layers for s in layer if s.kind == "member"):
            width, height = self.size(spot.item)
            yield Box(spot.item, left + self.placed.x[spot] - width / 2, self._middle(spot) - height / 2, width, height)

    def strands(self):
        spots = [spot for layer in self.arrangement.layers for spot in layer]
        members = {spot.item: spot for spot in spots if spot.kind == "member"}
        others = {(spot.kind, spot.net, spot.layer): spot for spot in spots if spot.kind != "member"}
        for net in self.arrangement.nets:
            yield from self._of(net, members, others)

    def _of(self, net, members, others):
        """The trunk is followed layer by layer: it is cut where lines branch off."""
        start = members[net.start] if net.start is not None else others["in", net.above, 0]
        ends = [(members[end], edges) for end, edges in net.ends.items()]
        if net.leaving:
            ends.append((others["out", net.below, len(self.arrangement.layers) - 1], net.leaving))
        spot, points = start, [self._below(start, net)]
        while ends:
            here = [end for end in ends if end[0].layer == spot.layer + 1]
            further = [end for end in ends if end[0].layer > spot.layer + 1]
            if here and spot is not start and len(ends) > 1 and len(points) > 1:
                yield Strand(points, [edge for _, edges in ends for edge in edges], False)
                points = points[-1:]
            for end, edges in here:
                into_box = end.kind == "member" and not self.is_open(end.item)
                yield Strand(points + self._turn(points[-1], spot, end, net), edges, into_box)
            if further:
                bend = others["bend", net, spot.layer + 1]
                points = points + self._turn(points[-1], spot, bend, net)
                points.append((points[-1][0], self.corner[1] + self.placed.bottoms[bend.layer]))
                spot = bend
            ends = further

    def _turn(self, point, upper, lower, net):
        """The points on from `point`: down to the upper layer's border, over to the lower layer's, into the box."""
        left, top = self.corner
        x = left + self.placed.x[lower] + (self.entry(lower.item, net) if lower.kind == "member" else 0.0)
        turned = [(point[0], top + self.placed.bottoms[upper.layer]), (x, top + self.placed.tops[lower.layer])]
        if lower.kind == "member":
            turned.append((x, self._middle(lower) - self.size(lower.item)[1] / 2))
        return [b for a, b in zip([point, *turned], turned, strict=False) if a != b]

    def _middle(self, spot):
        return self.corner[1] + (self.placed.tops[spot.layer] + self.placed.bottoms[spot.layer]) / 2

    def _below(self, spot, net) -> Point:
        x = self.corner[0] + self.placed.x[spot]
        if spot.kind != "member":
            return x, self.corner[1]
        return x + self.exit(spot.item, net), self._middle(spot) + self.size(spot.item)[1] / 2
