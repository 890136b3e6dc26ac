"""Layers and their order: how the members of one group are arranged, whatever size each has on the page.

A layered drawing (Sugiyama, Tagawa and Toda 1981): every member gets a layer below all that it uses; a line over
several layers bends only at layers in between; the order in each layer is swept by barycenters to avoid crossings. Each
group is arranged on its own, with the groups in it as members like any others, so opening one moves its surroundings
and rearranges nothing. Lines from one result share a trunk, from which they branch off: a result that is used in a
hundred layers has one line through them, and not a hundred.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

from diffprog.graph._draw.grouping import Group, Outline
from diffprog.graph._recording.nodes import Edge, Node

SWEEPS, EXCHANGES = 10, 8
BUNDLE = 4  # results from one group to the same place that are one line; fewer can be followed one by one


@dataclass(eq=False)
class Net:
    """What runs through one group together: a node's results, or a bundle of them on the same way.

    Attributes:
      start: the member of the group that the node is or is in; None if it is outside.
      ends: the members that use it, with the edges that lead there.
      leaving: the edges to what is outside the group.
      above, below: the net of the group around that comes in at a port of the upper border, if `start` is None, and
        that goes on from a port of the lower one, if anything leaves.
    """

    start: object
    ends: dict = field(default_factory=dict)
    leaving: list[Edge] = field(default_factory=list)
    above: "Net | None" = None
    below: "Net | None" = None


@dataclass(eq=False)
class Spot:
    """What takes a place in a layer: a member of the group, a port at its border ("in", "out"), or a trunk's bend.

    The `net` of a port is that of the group around, since several may use it, and of a bend the group's own. `up` and
    `down` are the spots in the layers next to it that lines lead to, `incoming` and `outgoing` their nets.
    """

    kind: str
    item: object = None
    net: Net | None = None
    layer: int = 0
    up: list["Spot"] = field(default_factory=list)
    down: list["Spot"] = field(default_factory=list)
    incoming: list[Net] = field(default_factory=list)
    outgoing: list[Net] = field(default_factory=list)
    position: float = 0.0


@dataclass(eq=False)
class Arrangement:
    """A group's spots in layers from top to bottom, each from left to right."""

    group: Group
    layers: list[list[Spot]]
    nets: list[Net]


def arrangements(tree: Outline, nodes: list[Node]) -> dict[Group, Arrangement]:
    nets = _bundled(tree, _nets(tree, nodes))
    return {group: _arrange(group, nets[group]) for group in tree.groups}


def _nets(tree: Outline, nodes: list[Node]) -> dict[Group, dict[int, Net]]:
    """The nets of each group by the index of the node whose results they carry."""
    found: dict[Group, dict[int, Net]] = {group: {} for group in tree.groups}

    def net(group, source, start) -> Net:
        return found[group].setdefault(source.index, Net(start))

    for source in nodes:
        outer = dict(_chain(tree, source))
        for edge in source.outgoing:
            if edge.target.index not in tree.home:
                continue  # it is not drawn
            for group, member in _chain(tree, edge.target):
                meeting = group in outer
                net(group, source, outer[group] if meeting else None).ends.setdefault(member, []).append(edge)
                if meeting:
                    break
            for inner, member in outer.items():
                if inner is group:
                    break
                net(inner, source, member).leaving.append(edge)
    return found


def _bundled(tree: Outline, found: dict[Group, dict[int, Net]]) -> dict[Group, list[Net]]:
    """Many results that go the same way from one group are one line, as a loop's states that are stacked at the end.

    From the outside in: what is a bundle outside comes in, or goes out, at one port.
    """
    nets: dict[Group, list[Net]] = {}
    for group in tree.groups:
        around = found[group.parent] if group.parent is not None else {}
        ways: dict[tuple, list[int]] = {}
        for index, net in found[group].items():
            net.above = around[index] if net.start is None else None
            net.below = around[index] if net.leaving else None
            alone = index if isinstance(net.start, Node) else None
            ways.setdefault((alone, net.start, net.above, frozenset(net.ends), net.below), []).append(index)
        for way in ways.values():
            if len(way) >= BUNDLE:
                bundle = _together([found[group][index] for index in way])
                found[group].update(dict.fromkeys(way, bundle))
        nets[group] = list(dict.fromkeys(found[group].values()))
    return nets


def _together(nets: list[Net]) -> Net:
    first, *_ = nets
    ends = {end: [edge for net in nets for edge in net.ends[end]] for end in first.ends}
    return Net(first.start, ends, [edge for net in nets for edge in net.leaving], first.above, first.below)


def _chain(tree: Outline, node: Node) -> list[tuple[Group, object]]:
    """The groups around a node, the nearest first, each with its member that the node is or is in."""
    member, found = node, []
    for group in tree.home[node.index].above():
        found.append((group, member))
        member = group
    return found


def _arrange(group: Group, nets: list[Net]) -> Arrangement:
    ranks = _ranks(group, nets)
    depth = max(ranks.values(), default=0) + 1
    # Layer 0 is the upper border with the ports where lines enter; the last is the lower border.
    layers: list[list[Spot]] = [[] for _ in range(depth + 2)]

    def spot(kind, layer, item=None, net=None):
        made = Spot(kind, item, net, layer)
        layers[layer].append(made)
        return made

    members = {child: spot("member", ranks[child] + 1, item=child) for child in group.children}
    ports: dict[tuple[str, Net], Spot] = {}

    def port(kind, layer, outside):
        if (kind, outside) not in ports:
            ports[kind, outside] = spot(kind, layer, net=outside)
        return ports[kind, outside]

    for net in nets:
        start = members[net.start] if net.start is not None else port("in", 0, net.above)
        ends = [members[end] for end in net.ends]
        if net.leaving:
            ends.append(port("out", depth + 1, net.below))
        _trunk(net, start, ends, spot)
    return Arrangement(group, _ordered(layers), nets)


def _trunk(net: Net, start: Spot, ends: list[Spot], spot):
    """Lines from `start` to all `ends`, which bend at one new spot in each layer that one of them passes."""
    previous, by_layer = start, {}
    for end in ends:
        by_layer.setdefault(end.layer, []).append(end)
    last = max(by_layer, default=start.layer)
    for layer in range(start.layer + 1, last + 1):
        for end in by_layer.get(layer, ()):
            _join(previous, end, net)
        if layer < last:
            bend = spot("bend", layer, net=net)
            _join(previous, bend, net)
            previous = bend


def _join(upper: Spot, lower: Spot, net: Net):
    upper.down.append(lower)
    upper.outgoing.append(net)
    lower.up.append(upper)
    lower.incoming.append(net)


def _ranks(group: Group, nets: list[Net]) -> dict:
    """A rank for each member, 0 at the top: the longest path to it, then lowered where that shortens lines."""
    after: dict = {child: {} for child in group.children}
    for net in nets:
        if net.start is not None:
            after[net.start].update(net.ends)
    waiting, rank = dict.fromkeys(group.children, 0), dict.fromkeys(group.children, 0)
    for users in after.values():
        for user in users:
            waiting[user] += 1
    ready = [child for child in group.children if not waiting[child]]
    ordered = []
    while ready:
        child = ready.pop()
        ordered.append(child)
        for user in after[child]:
            rank[user] = max(rank[user], rank[child] + 1)
            waiting[user] -= 1
            if not waiting[user]:
                ready.append(user)

    return _lowered(rank, ordered, after, nets)


def _lowered(rank: dict, ordered: list, after: dict, nets: list[Net]) -> dict:
    """Down to what uses them go those with no more lines from above than below; parameters so come to their layer.

    What is made of nothing but such, for one use, moves as one: its lines do not grow.
    """
    leaving = {net.start for net in nets if net.leaving}
    tied = dict.fromkeys(ordered, 0)
    for net in nets:
        if net.start is None:
            for end in net.ends:
                tied[end] += 1
    for child in ordered:
        if tied[child] or len(after[child]) != 1 or child in leaving:
            for user in after[child]:
                tied[user] += 1
    for child in reversed(ordered):
        if after[child] and child not in leaving and tied[child] <= len(after[child]):
            rank[child] = min(rank[user] for user in after[child]) - 1
    return rank


def _ordered(layers: list[list[Spot]]) -> list[list[Spot]]:
    """The order with the fewest crossings that was met: by sweeps of barycenters, then by exchanges of neighbors."""
    _depth_first(layers)
    best, least = [list(layer) for layer in layers], _cost(layers)

    def improve(change: Callable[[int], None], times: int):
        nonlocal best, least
        for turn in range(times):
            if least == (0, 0):
                break
            change(turn)
            cost = _cost(layers)
            if cost < least:
                best, least = [list(layer) for layer in layers], cost

    improve(lambda turn: _sweep(layers, turn % 2 == 0), SWEEPS)
    for layer, found in zip(layers, best, strict=True):
        layer[:] = found
        _number(layer)
    improve(lambda turn: _exchange(layers, turn % 2 == 0), EXCHANGES)
    return best


def _sweep(layers: list[list[Spot]], down: bool):
    for layer in layers if down else reversed(layers):
        _sort(layer, "up" if down else "down")


def _exchange(layers: list[list[Spot]], ties: bool):
    """Neighbors change places if lines then cross less often (Eades and Kelly 1986), or, with `ties`, no more often:
    a whole line of spots gets past a trunk in this way, though its first step gains nothing."""
    for layer in layers:
        above = [sorted(s.position for s in spot.up) for spot in layer]
        below = [sorted(s.position for s in spot.down) for spot in layer]
        for i in range(len(layer) - 1):
            pairs = (above[i], above[i + 1]), (below[i], below[i + 1])
            gain = sum(_crossed(a, b) - _crossed(b, a) for a, b in pairs)
            if gain > 0 or (ties and gain == 0 and any(a != b for a, b in pairs)):
                for row in (layer, above, below):
                    row[i], row[i + 1] = row[i + 1], row[i]
        _number(layer)


def _crossed(left: list[float], right: list[float]) -> int:
    """How many lines of two neighbors cross, by their sorted ends: pairs in which the left one's is farther right."""
    total = j = 0
    for end in left:
        while j < len(right) and right[j] < end:
            j += 1
        total += j
    return total


def _cost(layers: list[list[Spot]]) -> tuple[int, float]:
    sideways = sum(abs(a.position - b.position) for layer in layers for a in layer for b in a.down if a.kind == b.kind)
    return _crossings(layers), sideways


def _depth_first(layers: list[list[Spot]]):
    """The first order: as a walk along the lines meets them, so that what hangs together stands together."""
    seen: dict[Spot, int] = {}
    for start in (spot for layer in layers for spot in layer):
        stack = [start]
        while stack:
            spot = stack.pop()
            if spot not in seen:
                seen[spot] = len(seen)
                stack.extend(reversed(spot.down))
                stack.extend(s for s in spot.up if s not in seen)
    for layer in layers:
        layer.sort(key=seen.__getitem__)
        _number(layer)


def _number(layer: list[Spot]):
    for position, spot in enumerate(layer):
        spot.position = position


def _sort(layer: list[Spot], side: str):
    """By the mean position of the neighbors on one side; a spot without any keeps its place among the others."""

    def barycenter(spot):
        neighbors = getattr(spot, side)
        return sum(n.position for n in neighbors) / len(neighbors) if neighbors else None

    moving = [(key, spot) for spot in layer if (key := barycenter(spot)) is not None]
    moving.sort(key=lambda pair: pair[0])
    turn = iter(moving)
    layer[:] = [next(turn)[1] if getattr(spot, side) else spot for spot in layer]
    _number(layer)


def _crossings(layers: list[list[Spot]]) -> int:
    """How many pairs of lines cross: inversions among the ends of lines sorted by their starts (Barth et al. 2002)."""
    total = 0
    for layer in layers:
        ends = [p for spot in layer for p in sorted(s.position for s in spot.down)]
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
