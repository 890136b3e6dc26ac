"""Look into the arrays of a recording."""

from typing import NamedTuple

import numpy as np

from diffprog.graph._recording.nodes import Edge, Node, Place
from diffprog.graph._recording.summaries import Summary


def array(x):
    """Convert to a NumPy array of at least single precision; None for what was not kept whole or has no numbers."""
    if x is None or isinstance(x, Summary):
        return None
    dtype = getattr(x, "dtype", None)
    if dtype is not None and not isinstance(dtype, np.dtype):
        return None  # keys
    values = np.asarray(x)
    is_half = values.dtype.kind not in "iub" and values.dtype.itemsize < 4
    return values.astype(np.float32) if is_half else values


class Flaw(NamedTuple):
    """Whether an array has NaN, and infinities."""

    nan: bool
    infinite: bool

    def __bool__(self):
        return self.nan or self.infinite


def flaw(x) -> Flaw:
    """Look for NaN and infinity in an array or a `Summary`."""
    if isinstance(x, Summary):
        return Flaw(x.nonfinite > 0, False)
    values = array(x)
    if values is None or values.dtype.kind not in "fc":
        return Flaw(False, False)
    with np.errstate(all="ignore"):
        if np.isfinite(values.sum(dtype=np.complex128 if values.dtype.kind == "c" else np.float64)):
            return Flaw(False, False)
    return Flaw(bool(np.isnan(values).any()), bool(np.isinf(values).any()))


def first_index(mask) -> tuple[int, ...]:
    """Return the index of the first true element."""
    return tuple(int(i) for i in np.argwhere(mask)[0])


def operand(node: Node, argument: int):
    """Return an argument of a node as an array; None if it was not kept."""
    place = node.arguments[argument]
    return array(place.node.values[place.output] if isinstance(place, Place) else place)


def varies(node: Node, argument: int) -> bool:
    """Whether an argument depends on an input by a path that nothing cuts."""
    place = node.arguments[argument]
    return isinstance(place, Place) and place.node.differentiable[place.output]


def element(values, index):
    """Read an array at an index into the result to which it was broadcast; None if that is not known."""
    if values is None or index is None:
        return None
    if np.ndim(values) == 0:
        return values[()]
    if len(index) == np.ndim(values) and all(n == 1 or i < n for i, n in zip(index, values.shape, strict=True)):
        return values[tuple(0 if n == 1 else i for i, n in zip(index, values.shape, strict=True))]
    return None


def is_zero(x) -> bool:
    """Whether an array, or a `Summary`, is zero everywhere."""
    if isinstance(x, Summary):
        return x.zeros == 1
    values = array(x)
    return values is not None and not np.any(values)


def brackets(index) -> str:
    """Write an index."""
    return f"[{', '.join(map(str, index))}]" if index else ""


def number_text(x) -> str:
    """Write an element."""
    return f"{x + 0:.6g}" if not isinstance(x, (bool, np.bool_)) else str(bool(x))  # 0 rather than -0


def used_by(node: Node, output: int) -> list[Edge]:
    """List the edges by which one result of a node is used."""
    return [edge for edge in node.outgoing if edge.output == output]
