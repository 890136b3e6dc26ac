"""Which elements of an operation's result an element of an operand has a part in."""

from collections.abc import Callable

from diffprog.diagnosis._primitives import known
from diffprog.graph._recording.nodes import Edge, Node

Axes = tuple[int | None, ...]


def axes_in_result(edge: Edge) -> Axes | None:
    """Say along which axis of the result each axis of an operand lies.

    Args:
      edge: from the operand to the operation, which has one result.

    Returns:
      Per axis of the operand one of the result, or None if it was summed over; None if an element of the operand has
      a part in others than those that lie along with it, or that is not known.
    """
    node, shape = edge.target, edge.source.avals[edge.output].shape
    axes = _AXES.get(node.primitive)
    if axes is not None:
        return axes(node, edge.argument, len(shape))
    if not known(node.primitive).mixes and broadcasts(shape, node.avals[0].shape):
        return tuple(range(len(shape))) if shape else ()
    return None


def broadcasts(shape: tuple[int, ...], result: tuple[int, ...]) -> bool:
    """Whether an operand of an elementwise operation with a result of this shape may have that shape."""
    return shape == () or (
        len(shape) == len(result) and all(n in (1, size) for n, size in zip(shape, result, strict=True))
    )


def _product(node: Node, argument: int, rank: int) -> Axes:
    contracted, batch = node.params["dimension_numbers"]
    free = [axis for axis in range(rank) if axis not in contracted[argument] and axis not in batch[argument]]
    before = len(batch[0]) if argument == 0 else len(node.avals[0].shape) - len(free)
    places = dict(zip(batch[argument], range(len(batch[0])), strict=True))
    places |= {axis: before + i for i, axis in enumerate(free)}
    return tuple(places.get(axis) for axis in range(rank))


def _broadcast(node: Node, _argument: int, _rank: int) -> Axes:
    return tuple(node.params["broadcast_dimensions"])


def _transposed(node: Node, _argument: int, rank: int) -> Axes:
    permutation = tuple(node.params["permutation"])
    return tuple(permutation.index(axis) for axis in range(rank))


def _reduced(node: Node, _argument: int, rank: int) -> Axes:
    left = [axis for axis in range(rank) if axis not in node.params["axes"]]
    return tuple(left.index(axis) if axis in left else None for axis in range(rank))


_AXES: dict[str, Callable[[Node, int, int], Axes]] = {
    "dot_general": _product,
    "broadcast_in_dim": _broadcast,
    "transpose": _transposed,
    **dict.fromkeys(("reduce_sum", "reduce_max", "reduce_min", "reduce_prod"), _reduced),
}
