"""Coordinates for one group's arrangement: x by alternating least squares under the order, y layer by layer.

In a layer, every vertex wants to stand below (or above) the mean of its neighbors. The places that keep the order and
the distances and are nearest to the wishes in least squares come from isotonic regression by pooling adjacent
violators (Kruskal 1964), in linear time. Lines over several layers weigh most, so that they are straight (Gansner et
al. 1993, section 4.2). The page repeats this in JavaScript (page/coordinates.js), and a test holds the two together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from diffprog.graph._draw.layering import Arrangement, Bundle, Vertex

ROUNDS = 6
MEMBER_GAP, DUMMY_GAP = 22.0, 12.0
LAYER_GAP, STEEPEST, LARGEST_GAP = 26.0, 0.07, 80.0
PADDING, HEADER = 14.0, 20.0


@dataclass
class Placed:
    """Coordinates inside a group: middle of each vertex, top and bottom of each layer, ports by the bundle outside."""

    width: float
    height: float
    x: dict[Vertex, float]
    tops: list[float]
    bottoms: list[float]
    entries: dict[Bundle, float]
    exits: dict[Bundle, float]


def place(arrangement: Arrangement, size: Callable, entry: Callable, exit: Callable) -> Placed:
    """Compute the coordinates of one group.

    Args:
      arrangement: the group's layers and lines.
      size: member -> (width, height).
      entry: (member, bundle) -> where, from the member's middle, a line arrives.
      exit: (member, bundle) -> where, from the member's middle, a line leaves.
    """
    layers = arrangement.layers
    whole = arrangement.group.parent is None
    sizes = {s: size(s.item) if s.kind == "member" else (0.0, 0.0) for layer in layers for s in layer}
    columns = _Columns(layers, sizes, entry, exit)
    x = columns.solve()

    left = min((x[s] - sizes[s][0] / 2 for s in x), default=0.0) - PADDING
    x = {vertex: value - left for vertex, value in x.items()}
    width = max((x[s] + sizes[s][0] / 2 for s in x), default=0.0) + PADDING
    tops, bottoms = _rows(layers, sizes, x, columns, PADDING if whole else HEADER)
    height = bottoms[-1] if not whole else bottoms[-1] + PADDING
    ends = lambda layer: {vertex.bundle: x[vertex] for vertex in layer}
    return Placed(width, height, x, tops, bottoms, ends(layers[0]), ends(layers[-1]))


class _Columns:
    """The search for x. Each vertex has its links on both sides as (neighbor, shift, weight)."""

    def __init__(self, layers, sizes, entry, exit):
        self.layers, self.sizes = layers, sizes
        leaves = lambda s, bundle: exit(s.item, bundle) if s.kind == "member" else 0.0
        arrives = lambda s, bundle: entry(s.item, bundle) if s.kind == "member" else 0.0
        light = _light(layers)
        self.up: dict[Vertex, list] = {}
        self.down: dict[Vertex, list] = {}
        for vertex in (s for layer in layers for s in layer):
            self.up[vertex] = [
                (n, leaves(n, bundle) - arrives(vertex, bundle), _weight(n, vertex, light))
                for n, bundle in zip(vertex.up, vertex.incoming, strict=True)
            ]
            self.down[vertex] = [
                (n, arrives(n, bundle) - leaves(vertex, bundle), _weight(vertex, n, light))
                for n, bundle in zip(vertex.down, vertex.outgoing, strict=True)
            ]
        self.gaps = [self._gaps(layer) for layer in layers]

    def _gaps(self, layer):
        """Compute the smallest distances between the middles of neighbors in a layer."""
        return [
            (self.sizes[a][0] + self.sizes[b][0]) / 2 + (DUMMY_GAP if "member" not in (a.kind, b.kind) else MEMBER_GAP)
            for a, b in pairwise(layer)
        ]

    def solve(self) -> dict[Vertex, float]:
        x = {}
        for layer, gaps in zip(self.layers, self.gaps, strict=True):
            place = -sum(gaps) / 2
            for vertex, gap in zip(layer, [*gaps, 0.0], strict=False):
                x[vertex] = place
                place += gap
        for turn in range(2 * ROUNDS):
            # At first from one side, which carries far; in the last rounds from both, which settles.
            sides = (self.up, self.down) if turn >= 2 * ROUNDS - 4 else (self.down if turn % 2 else self.up,)
            order = range(len(self.layers))
            for i in reversed(order) if turn % 2 else order:
                self._settle(i, x, sides)
        self._straighten(x)
        return x

    def _straighten(self, x):
        """Trunks run straight for as many layers as there is room beside them: least squares would make stairs."""
        beside = {}
        for layer, gaps in zip(self.layers, self.gaps, strict=True):
            for i, vertex in enumerate(layer):
                left = (layer[i - 1], gaps[i - 1]) if i else None
                beside[vertex] = left, ((layer[i + 1], gaps[i]) if i + 1 < len(layer) else None)

        def room(vertex):
            left, right = beside[vertex]
            return x[left[0]] + left[1] if left else -1e9, x[right[0]] - right[1] if right else 1e9

        for layer in self.layers:
            for vertex in layer:
                if vertex.kind == "dummy" and vertex.up[0].kind != "dummy":
                    self._straight(_trunk(vertex), x, room)

    def _straight(self, trunk, x, room):
        above, shift, _ = self.up[trunk[0]][0]
        wish = x[above] + shift
        while trunk:
            low, high, length = -1e9, 1e9, 0
            for vertex in trunk:
                left, right = room(vertex)
                if max(low, left) > min(high, right):
                    break
                low, high, length = max(low, left), min(high, right), length + 1
            if not length:  # rounding: a vertex without any room stays
                wish, trunk = x[trunk[0]], trunk[1:]
                continue
            if length == len(trunk) and not low <= wish <= high:
                below, shift, _ = self.down[trunk[-1]][0]
                wish = x[below] + shift
            wish = min(max(wish, low), high)
            for vertex in trunk[:length]:
                x[vertex] = wish
            trunk = trunk[length:]

    def _settle(self, i, x, sides):
        layer = self.layers[i]
        wishes, weights = [], []
        for vertex in layer:
            total, weight = 0.001 * x[vertex], 0.001
            for side in sides:
                for neighbor, shift, w in side[vertex]:
                    total += w * (x[neighbor] + shift)
                    weight += w
            wishes.append(total / weight)
            weights.append(weight)
        for vertex, value in zip(layer, nearest(wishes, weights, self.gaps[i]), strict=True):
            x[vertex] = value


def _trunk(vertex: Vertex) -> list[Vertex]:
    """List the dummy vertices of one line from `vertex` on."""
    trunk = [vertex]
    while following := [s for s in trunk[-1].down if s.kind == "dummy" and s.bundle is vertex.bundle]:
        trunk.append(following[0])
    return trunk


def _light(layers) -> set[Vertex]:
    """Find vertices that come from parameters and constants alone and have one user, which they follow."""
    light = set()
    for vertex in (s for layer in layers for s in layer):
        if vertex.kind != "in" and len(vertex.down) == 1 and all(above in light for above in vertex.up):
            light.add(vertex)
    return light


def _weight(upper: Vertex, lower: Vertex, light: set[Vertex]) -> float:
    """Of the wish that two vertices stand one below the other."""
    weight = (1.0, 3.0, 8.0)[(upper.kind != "member") + (lower.kind != "member")]
    return 0.1 * weight if upper in light else weight


def nearest(wishes: list[float], weights: list[float], gaps: list[float]) -> list[float]:
    """Find the x minimizing sum(weights * (x - wishes)^2) with x[i + 1] - x[i] >= gaps[i]."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, number of elements
    offset, offsets = 0.0, []
    for i, (wish, weight) in enumerate(zip(wishes, weights, strict=True)):
        offset += gaps[i - 1] if i else 0.0
        offsets.append(offset)
        block = (wish - offset, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            mean, before, count = blocks.pop()
            both = before + block[1]
            block = ((mean * before + block[0] * block[1]) / both, both, count + block[2])
        blocks.append(block)
    means = [mean for mean, _, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _rows(layers, sizes, x, columns, y):
    """Top and bottom of each layer; layers stand apart further where lines between them go far sideways."""
    tops, bottoms = [], []
    for layer in layers:
        height = max((sizes[vertex][1] for vertex in layer), default=0.0)
        tops.append(y)
        bottoms.append(y + height)
        farthest = max(
            (abs(x[n] + shift - x[vertex]) for vertex in layer for n, shift, _ in columns.down[vertex]), default=0.0
        )
        border = layer is layers[0] or layer is layers[-2]
        gap = min(LAYER_GAP + STEEPEST * farthest, LARGEST_GAP)
        if border:
            gap = max(PADDING, gap - PADDING) if farthest else PADDING
        y += height + gap
    return tops, bottoms
