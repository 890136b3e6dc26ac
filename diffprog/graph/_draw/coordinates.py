"""Coordinates for one group's arrangement: x by alternating least squares under the order, y layer by layer.

In a layer, every spot wants to stand below (or above) the mean of its neighbors. The places that keep the order and
the distances and are nearest to the wishes in least squares come from isotonic regression by pooling adjacent
violators (Kruskal 1964), in linear time. Lines over several layers weigh most, so that they are straight (Gansner et
al. 1993, section 4.2). The page repeats this in JavaScript (page/coordinates.js), and a test holds the two together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from diffprog.graph._draw.layering import Arrangement, Net, Spot

ROUNDS = 6
MEMBER_GAP, BEND_GAP = 22.0, 12.0
LAYER_GAP, STEEPEST, LARGEST_GAP = 26.0, 0.07, 80.0
PADDING, HEADER = 14.0, 20.0


@dataclass
class Placed:
    """Coordinates inside a group: middle of each spot, top and bottom of each layer, ports by the net outside."""

    width: float
    height: float
    x: dict[Spot, float]
    tops: list[float]
    bottoms: list[float]
    entries: dict[Net, float]
    exits: dict[Net, float]


def place(arrangement: Arrangement, size: Callable, entry: Callable, exit: Callable) -> Placed:
    """The coordinates of one group.

    Args:
      size: member -> (width, height).
      entry, exit: (member, net) -> where, from the member's middle, a line arrives or leaves.
    """
    layers = arrangement.layers
    whole = arrangement.group.parent is None
    sizes = {s: size(s.item) if s.kind == "member" else (0.0, 0.0) for layer in layers for s in layer}
    columns = _Columns(layers, sizes, entry, exit)
    x = columns.solve()

    left = min((x[s] - sizes[s][0] / 2 for s in x), default=0.0) - PADDING
    x = {spot: value - left for spot, value in x.items()}
    width = max((x[s] + sizes[s][0] / 2 for s in x), default=0.0) + PADDING
    tops, bottoms = _rows(layers, sizes, x, columns, PADDING if whole else HEADER)
    height = bottoms[-1] if not whole else bottoms[-1] + PADDING
    at = lambda layer: {spot.net: x[spot] for spot in layer}
    return Placed(width, height, x, tops, bottoms, at(layers[0]), at(layers[-1]))


class _Columns:
    """The search for x. Each spot has its links on both sides as (neighbor, shift, weight)."""

    def __init__(self, layers, sizes, entry, exit):
        self.layers, self.sizes = layers, sizes
        leaves = lambda s, net: exit(s.item, net) if s.kind == "member" else 0.0
        arrives = lambda s, net: entry(s.item, net) if s.kind == "member" else 0.0
        light = _light(layers)
        self.up: dict[Spot, list] = {}
        self.down: dict[Spot, list] = {}
        for spot in (s for layer in layers for s in layer):
            self.up[spot] = [
                (n, leaves(n, net) - arrives(spot, net), _weight(n, spot, light))
                for n, net in zip(spot.up, spot.incoming, strict=True)
            ]
            self.down[spot] = [
                (n, arrives(n, net) - leaves(spot, net), _weight(spot, n, light))
                for n, net in zip(spot.down, spot.outgoing, strict=True)
            ]
        self.gaps = [self._gaps(layer) for layer in layers]

    def _gaps(self, layer):
        """The least distances between the middles of neighbors in a layer."""
        return [
            (self.sizes[a][0] + self.sizes[b][0]) / 2 + (BEND_GAP if "member" not in (a.kind, b.kind) else MEMBER_GAP)
            for a, b in pairwise(layer)
        ]

    def solve(self) -> dict[Spot, float]:
        x = {}
        for layer, gaps in zip(self.layers, self.gaps, strict=True):
            place = -sum(gaps) / 2
            for spot, gap in zip(layer, [*gaps, 0.0], strict=False):
                x[spot] = place
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
            for i, spot in enumerate(layer):
                left = (layer[i - 1], gaps[i - 1]) if i else None
                beside[spot] = left, ((layer[i + 1], gaps[i]) if i + 1 < len(layer) else None)

        def room(spot):
            left, right = beside[spot]
            return x[left[0]] + left[1] if left else -1e9, x[right[0]] - right[1] if right else 1e9

        for layer in self.layers:
            for spot in layer:
                if spot.kind == "bend" and spot.up[0].kind != "bend":
                    self._straight(_trunk(spot), x, room)

    def _straight(self, trunk, x, room):
        above, shift, _ = self.up[trunk[0]][0]
        wish = x[above] + shift
        while trunk:
            low, high, length = -1e9, 1e9, 0
            for spot in trunk:
                left, right = room(spot)
                if max(low, left) > min(high, right):
                    break
                low, high, length = max(low, left), min(high, right), length + 1
            if not length:  # rounding: a spot without any room stays
                wish, trunk = x[trunk[0]], trunk[1:]
                continue
            if length == len(trunk) and not low <= wish <= high:
                below, shift, _ = self.down[trunk[-1]][0]
                wish = x[below] + shift
            wish = min(max(wish, low), high)
            for spot in trunk[:length]:
                x[spot] = wish
            trunk = trunk[length:]

    def _settle(self, i, x, sides):
        layer = self.layers[i]
        wishes, weights = [], []
        for spot in layer:
            total, weight = 0.001 * x[spot], 0.001
            for side in sides:
                for neighbor, shift, w in side[spot]:
                    total += w * (x[neighbor] + shift)
                    weight += w
            wishes.append(total / weight)
            weights.append(weight)
        for spot, value in zip(layer, nearest(wishes, weights, self.gaps[i]), strict=True):
            x[spot] = value


def _trunk(spot: Spot) -> list[Spot]:
    """The bends of one line from `spot` on."""
    found = [spot]
    while following := [s for s in found[-1].down if s.kind == "bend" and s.net is spot.net]:
        found.append(following[0])
    return found


def _light(layers) -> set[Spot]:
    """What comes from parameters and constants alone and goes to one place: it follows its user, and moves nothing."""
    light = set()
    for spot in (s for layer in layers for s in layer):
        if spot.kind != "in" and len(spot.down) == 1 and all(above in light for above in spot.up):
            light.add(spot)
    return light


def _weight(upper: Spot, lower: Spot, light: set[Spot]) -> float:
    """Of the wish that two spots stand one below the other."""
    weight = (1.0, 3.0, 8.0)[(upper.kind != "member") + (lower.kind != "member")]
    return 0.1 * weight if upper in light else weight


def nearest(wishes: list[float], weights: list[float], gaps: list[float]) -> list[float]:
    """The x minimizing sum(weights * (x - wishes)^2) with x[i + 1] - x[i] >= gaps[i]."""
    blocks: list[list[float]] = []  # mean, weight, how many
    offset, offsets = 0.0, []
    for i, (wish, weight) in enumerate(zip(wishes, weights, strict=True)):
        offset += gaps[i - 1] if i else 0.0
        offsets.append(offset)
        block = [wish - offset, weight, 1]
        while blocks and blocks[-1][0] > block[0]:
            mean, before, count = blocks.pop()
            both = before + block[1]
            block = [(mean * before + block[0] * block[1]) / both, both, count + block[2]]
        blocks.append(block)
    means = [mean for mean, _, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _rows(layers, sizes, x, columns, y):
    """Top and bottom of each layer; layers stand apart further where lines between them go far sideways."""
    tops, bottoms = [], []
    for layer in layers:
        height = max((sizes[spot][1] for spot in layer), default=0.0)
        tops.append(y)
        bottoms.append(y + height)
        farthest = max(
            (abs(x[n] + shift - x[spot]) for spot in layer for n, shift, _ in columns.down[spot]), default=0.0
        )
        border = layer is layers[0] or layer is layers[-2]
        gap = min(LAYER_GAP + STEEPEST * farthest, LARGEST_GAP)
        if border:
            gap = max(PADDING, gap - PADDING) if farthest else PADDING
        y += height + gap
    return tops, bottoms
