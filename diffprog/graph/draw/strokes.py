"""Lines and marks as SVG draws them."""

from diffprog.graph.draw.figures import MARKS, gradient_norm
from diffprog.graph.draw.outline import Group
from diffprog.graph.draw.scale import Scale
from diffprog.graph.nodes import Node

BADGES = {"nan": "NaN", "zero": "∂ = 0", "unused": "no ∂", "blocked": "cut"}
MEANINGS = {
    "nan": "not finite (NaN or infinity)",
    "zero": "the gradient is zero everywhere",
    "unused": "no gradient arrives: the output does not depend on it",
    "blocked": "cut: nothing can be differentiated here",
    "constant": "not differentiated",
}


def curve(points) -> str:
    """The path through a strand's points: straight where x stays, else a bend that is vertical at both ends."""
    (x, y), *rest = points
    path = [f"M{_short(x)} {_short(y)}"]
    for next_x, next_y in rest:
        if next_x == x:
            path.append(f"V{_short(next_y)}")
        else:
            middle = _short((y + next_y) / 2)
            path.append(f"C{_short(x)} {middle} {_short(next_x)} {middle} {_short(next_x)} {_short(next_y)}")
        x, y = next_x, next_y
    return "".join(path)


def tip(point, mark: str) -> str:
    """What ends a line at a box: an arrow, or a bar where the gradient is cut."""
    x, y = point
    if mark == "blocked":
        return f"M{_short(x - 6)} {_short(y - 3)}h12v2.5h-12z"
    return f"M{_short(x - 4.5)} {_short(y - 8)}h9L{_short(x)} {_short(y)}z"


def _short(x: float) -> str:
    return f"{x:.1f}".removesuffix(".0")


def mark_of(item: Node | Group) -> str:
    """A node's mark; of a group, the gravest of its nodes' marks."""
    if isinstance(item, Node):
        return item.mark
    found = {node.mark for node in item.nodes()} - {""}
    return min(found, key=MARKS.index, default="")


def badge_of(item: Node | Group) -> str:
    """What the box says of its mark; a group also how many of its nodes have it."""
    mark = mark_of(item)
    if not mark:
        return ""
    if isinstance(item, Node):
        return BADGES[mark]
    return f"{sum(node.mark == mark for node in item.nodes())}\N{MULTIPLICATION SIGN} {BADGES[mark]}"


def step_of(item: Node | Group, scale: Scale | None) -> int | None:
    """The step of a node's gradient; of a group, of its largest."""
    if scale is None:
        return None
    nodes = [item] if isinstance(item, Node) else item.nodes()
    steps = [scale.step(gradient_norm(node)) for node in nodes]
    return max((step for step in steps if step is not None), default=None)
