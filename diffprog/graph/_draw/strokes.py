"""Lines as SVG draws them."""


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
