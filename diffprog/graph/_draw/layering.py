"""Assign the members of each group to layers, and order each layer.

This is a layered drawing (Sugiyama, Tagawa and Toda 1981). Every member of a group is a vertex in a layer below all
that it uses. A line over several layers bends at a dummy vertex in each layer between, and enters or leaves the group
at a port. The order in each layer is swept by barycenters to avoid crossings.

Each group is arranged on its own, with the groups in it as members like any others, so opening one moves its
surroundings and rearranges nothing. Lines from one result share a trunk, from which they branch off: a result that is
used in a hundred layers has one line through them.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from diffprog._util.walk import walk
from diffprog.graph._draw.grouping import Group, GroupTree
from diffprog.graph._recording.nodes import Edge, Node

SWEEPS, EXCHANGES = 10, 8
MIN_BUNDLE = 4  # results on the same way that are one line; fewer can be followed one by one


@dataclass(eq=False)
class Bundle:
    """An edge bundle: what runs through one group together, the results of a node or of several on the same way.

    Attributes:
      start: the member of the group that the node is or is in; None if it is outside.
      ends: the members that use it, with the edges that lead there.
      leaving: the edges to what is outside the group.
      above: the bundle of the group around that enters at a port of the upper border; None if `start` is inside.
      below: the bundle of the group around that goes on from a port of the lower border; None if nothing leaves.
    """

    start: object
    ends: dict = field(default_factory=dict)
    leaving: list[Edge] = field(default_factory=list)
    above: "Bundle | None" = None
    below: "Bundle | None" = None


@dataclass(eq=False)
class Vertex:
    """What takes a place in a layer.

    Attributes:
      kind: "member" of the group, port at its border ("in", "out"), or "dummy" where a trunk passes a layer.
      item: the member.
      bundle: of a dummy vertex the bundle of the group; of a port that of the group around, since several may use it.
      layer: number of its layer.
      up, down: the vertices in the layers above and below to which lines lead.
      incoming, outgoing: the bundles of these lines.
      position: its place in the layer.
    """

    kind: str
    item: object = None
    bundle: Bundle | None = None
    layer: int = 0
    up: list["Vertex"] = field(default_factory=list)
    down: list["Vertex"] = field(default_factory=list)
    incoming: list[Bundle] = field(default_factory=list)
    outgoing: list[Bundle] = field(default_factory=list)
    position: float = 0.0


@dataclass(eq=False)
class Arrangement:
    """A group's vertices in layers from top to bottom, each layer from left to right."""

    group: Group
    layers: list[list[Vertex]]
    bundles: list[Bundle]


def arrangements(tree: GroupTree, nodes: list[Node]) -> dict[Group, Arrangement]:
    """Arrange the members of every group."""
    bundles = _merge_alike(tree, _bundles_by_node(tree, nodes))
    return {group: _arrange(group, bundles[group]) for group in tree.groups}


def _bundles_by_node(tree: GroupTree, nodes: list[Node]) -> dict[Group, dict[int, Bundle]]:
    """Collect the bundles of each group, by the index of the node whose results they carry."""
    by_node: dict[Group, dict[int, Bundle]] = {group: {} for group in tree.groups}

    def bundle(group, source, start) -> Bundle:
        return by_node[group].setdefault(source.index, Bundle(start))

    for source in nodes:
        outer = dict(_chain(tree, source))
        for edge in source.outgoing:
            if edge.target.index not in tree.group_of:
                continue  # it is not drawn
            for group, member in _chain(tree, edge.target):
                meeting = group in outer
                bundle(group, source, outer[group] if meeting else None).ends.setdefault(member, []).append(edge)
                if meeting:
                    break
            for inner, member in outer.items():
                if inner is group:
                    break
                bundle(inner, source, member).leaving.append(edge)
    return by_node


def _merge_alike(tree: GroupTree, by_node: dict[Group, dict[int, Bundle]]) -> dict[Group, list[Bundle]]:
    """Merge the bundles that go the same way, as those of a loop's states that are stacked at the end.

    Groups follow from the outside in: what is one bundle outside enters, or leaves, at one port.
    """
    bundles: dict[Group, list[Bundle]] = {}
    for group in tree.groups:
        around = by_node[group.parent] if group.parent is not None else {}
        ways: dict[tuple, list[int]] = {}
        for index, bundle in by_node[group].items():
            bundle.above = around[index] if bundle.start is None else None
            bundle.below = around[index] if bundle.leaving else None
            alone = index if isinstance(bundle.start, Node) else None
            ways.setdefault((alone, bundle.start, bundle.above, frozenset(bundle.ends), bundle.below), []).append(index)
        for way in ways.values():
            if len(way) >= MIN_BUNDLE:
                merged = _merged([by_node[group][index] for index in way])
                by_node[group].update(dict.fromkeys(way, merged))
        bundles[group] = list(dict.fromkeys(by_node[group].values()))
    return bundles


def _merged(bundles: list[Bundle]) -> Bundle:
    first, *_ = bundles
    ends = {end: [edge for bundle in bundles for edge in bundle.ends[end]] for end in first.ends}
    return Bundle(first.start, ends, [edge for bundle in bundles for edge in bundle.leaving], first.above, first.below)


def _chain(tree: GroupTree, node: Node) -> list[tuple[Group, object]]:
    """List the groups around a node, the nearest first, each with its member that the node is or is in."""
    member: Group | Node = node
    chain: list[tuple[Group, object]] = []
    for group in tree.group_of[node.index].above():
        chain.append((group, member))
        member = group
    return chain


def _arrange(group: Group, bundles: list[Bundle]) -> Arrangement:
    ranks = _ranks(group, bundles)
    depth = max(ranks.values(), default=0) + 1
    # Layer 0 is the upper border with the ports where lines enter; the last is the lower border.
    layers: list[list[Vertex]] = [[] for _ in range(depth + 2)]

    def vertex(kind, layer, item=None, bundle=None):
        made = Vertex(kind, item, bundle, layer)
        layers[layer].append(made)
        return made

    members = {child: vertex("member", ranks[child] + 1, item=child) for child in group.children}
    ports: dict[tuple[str, Bundle], Vertex] = {}

    def port(kind, layer, outside):
        if (kind, outside) not in ports:
            ports[kind, outside] = vertex(kind, layer, bundle=outside)
        return ports[kind, outside]

    for bundle in bundles:
        start = members[bundle.start] if bundle.start is not None else port("in", 0, bundle.above)
        ends = [members[end] for end in bundle.ends]
        if bundle.leaving:
            ends.append(port("out", depth + 1, bundle.below))
        _trunk(bundle, start, ends, vertex)
    return Arrangement(group, _ordered(layers), bundles)


def _trunk(bundle: Bundle, start: Vertex, ends: list[Vertex], vertex):
    """Draw lines from `start` to all `ends`, through one new dummy vertex in each layer that one of them passes."""
    previous = start
    by_layer: dict[int, list[Vertex]] = {}
    for end in ends:
        by_layer.setdefault(end.layer, []).append(end)
    last = max(by_layer, default=start.layer)
    for layer in range(start.layer + 1, last + 1):
        for end in by_layer.get(layer, ()):
            _join(previous, end, bundle)
        if layer < last:
            dummy = vertex("dummy", layer, bundle=bundle)
            _join(previous, dummy, bundle)
            previous = dummy


def _join(upper: Vertex, lower: Vertex, bundle: Bundle):
    upper.down.append(lower)
    upper.outgoing.append(bundle)
    lower.up.append(upper)
    lower.incoming.append(bundle)


def _ranks(group: Group, bundles: list[Bundle]) -> dict:
    """Rank the members, 0 at the top: by the longest path to each, then lowered where that shortens lines."""
    after: dict = {child: {} for child in group.children}
    before: dict = {child: [] for child in group.children}
    for bundle in bundles:
        if bundle.start is not None:
            after[bundle.start].update(bundle.ends)
            for end in bundle.ends:
                before[end].append(bundle.start)
    ordered = list(TopologicalSorter(before).static_order())
    rank: dict = {}
    for child in ordered:
        rank[child] = max((rank[used] + 1 for used in before[child]), default=0)
    return _lowered(rank, ordered, after, bundles)


def _lowered(rank: dict, ordered: list, after: dict, bundles: list[Bundle]) -> dict:
    """Lower the members that have no more lines from above than below to the layer above their users.

    Parameters come to the layer that uses them in this way. A member made of nothing but such members, for one use,
    moves with them: its lines do not grow.
    """
    leaving = {bundle.start for bundle in bundles if bundle.leaving}
    tied = dict.fromkeys(ordered, 0)
    for bundle in bundles:
        if bundle.start is None:
            for end in bundle.ends:
                tied[end] += 1
    for child in ordered:
        if tied[child] or len(after[child]) != 1 or child in leaving:
            for user in after[child]:
                tied[user] += 1
    for child in reversed(ordered):
        if after[child] and child not in leaving and tied[child] <= len(after[child]):
            rank[child] = min(rank[user] for user in after[child]) - 1
    return rank


def _ordered(layers: list[list[Vertex]]) -> list[list[Vertex]]:
    """Reorder the layers, and return the order with the fewest crossings that sweeps and exchanges came by."""
    _depth_first(layers)
    best, lowest = [list(layer) for layer in layers], _cost(layers)

    def improve(change: Callable[[int], None], times: int):
        nonlocal best, lowest
        for turn in range(times):
            if lowest == (0, 0):
                break
            change(turn)
            cost = _cost(layers)
            if cost < lowest:
                best, lowest = [list(layer) for layer in layers], cost

    improve(lambda turn: _sweep(layers, turn % 2 == 0), SWEEPS)
    for layer, order in zip(layers, best, strict=True):
        layer[:] = order
        _number(layer)
    improve(lambda turn: _exchange(layers, turn % 2 == 0), EXCHANGES)
    return best


def _sweep(layers: list[list[Vertex]], down: bool):
    for layer in layers if down else reversed(layers):
        _sort(layer, "up" if down else "down")


def _exchange(layers: list[list[Vertex]], ties: bool):
    """Exchange neighbors if lines then cross less often (Eades and Kelly 1986).

    With `ties`, also if they cross as often: so a whole line of vertices gets past a trunk, though its first step gains
    nothing.
    """
    for layer in layers:
        above = [sorted(s.position for s in vertex.up) for vertex in layer]
        below = [sorted(s.position for s in vertex.down) for vertex in layer]
        for i in range(len(layer) - 1):
            pairs = (above[i], above[i + 1]), (below[i], below[i + 1])
            gain = sum(_crossed(a, b) - _crossed(b, a) for a, b in pairs)
            if gain > 0 or (ties and gain == 0 and any(a != b for a, b in pairs)):
                rows: tuple[list, ...] = (layer, above, below)
                for row in rows:
                    row[i], row[i + 1] = row[i + 1], row[i]
        _number(layer)


def _crossed(left: list[float], right: list[float]) -> int:
    """Count the crossings of two neighbors' lines, by their sorted ends: pairs with the left one's farther right."""
    total = j = 0
    for end in left:
        while j < len(right) and right[j] < end:
            j += 1
        total += j
    return total


def _cost(layers: list[list[Vertex]]) -> tuple[int, float]:
    lines = [(a, b) for layer in layers for a in layer for b in a.down if a.kind == b.kind]
    sideways = sum(abs(a.position - b.position) for a, b in lines)
    return count_crossings(layers), sideways


def _depth_first(layers: list[list[Vertex]]):
    """Order each layer as a walk along the lines meets its vertices, so that connected ones stand together."""
    vertices = [vertex for layer in layers for vertex in layer]
    order = {vertex: i for i, vertex in enumerate(walk(vertices, lambda v: [*reversed(v.up), *v.down]))}
    for layer in layers:
        layer.sort(key=order.__getitem__)
        _number(layer)


def _number(layer: list[Vertex]):
    for position, vertex in enumerate(layer):
        vertex.position = position


def _sort(layer: list[Vertex], side: str):
    """Sort a layer by the mean position of the neighbors on one side; a vertex without any keeps its place."""

    def barycenter(vertex):
        neighbors = getattr(vertex, side)
        return sum(n.position for n in neighbors) / len(neighbors) if neighbors else None

    moving = [(key, vertex) for vertex in layer if (key := barycenter(vertex)) is not None]
    moving.sort(key=lambda pair: pair[0])
    turn = iter(moving)
    layer[:] = [next(turn)[1] if getattr(vertex, side) else vertex for vertex in layer]
    _number(layer)


def count_crossings(layers: list[list[Vertex]]) -> int:
    """Count crossings: inversions among the ends of lines sorted by their starts (Barth et al. 2002)."""
    total = 0
    for layer in layers:
        ends = [p for vertex in layer for p in sorted(s.position for s in vertex.down)]
        total += _inversions(ends)
    return total


def _inversions(values: list[float]) -> int:
    seen: list[float] = []
    total = 0
    for value in values:
        place = bisect_left(seen, value + 0.5)
        total += len(seen) - place
        seen.insert(place, value)
    return total
