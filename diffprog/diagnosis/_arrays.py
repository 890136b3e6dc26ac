"""Looking into the arrays of a recording."""

from typing import NamedTuple

import numpy as np

from diffprog.graph._recording.nodes import Edge, Node, Place
from diffprog.graph._recording.summaries import Summary


def array(x):
    """`x` as a NumPy array of at least single precision, None if it was not kept whole or has no numbers."""
    if x is None or isinstance(x, Summary):
        return None
    dtype = getattr(x, "dtype", None)
    if dtype is not None and not isinstance(dtype, np.dtype):
        return None  # keys
    found = np.asarray(x)
    small = found.dtype.kind not in "iub" and found.dtype.itemsize < 4  # half precision
    return found.astype(np.float32) if small else found


class Flaw(NamedTuple):
    """Whether an array has NaN, and infinities."""

    nan: bool
    infinite: bool

    def __bool__(self):
        return self.nan or self.infinite


def flaw(x) -> Flaw:
    """Whether an array, or a `Summary`, has NaN or infinity in it."""
    if isinstance(x, Summary):
        return Flaw(x.nonfinite > 0, False)
    found = array(x)
    if found is None or found.dtype.kind not in "fc":
        return Flaw(False, False)
    with np.errstate(all="ignore"):
        if np.isfinite(found.sum(dtype=np.complex128 if found.dtype.kind == "c" else np.float64)):
            return Flaw(False, False)
    return Flaw(bool(np.isnan(found).any()), bool(np.isinf(found).any()))


def first_index(mask) -> tuple[int, ...]:
    """The index of the first true element."""
    return tuple(int(i) for i in np.argwhere(mask)[0])


def operand(node: Node, argument: int):
    """An argument of a node, as an array; None if it was not kept."""
    given = node.arguments[argument]
    return array(given.node.values[given.output] if isinstance(given, Place) else given)


def varies(node: Node, argument: int) -> bool:
    """Whether an argument depends on an input by a path that nothing cuts."""
    given = node.arguments[argument]
    return isinstance(given, Place) and given.node.differentiable[given.output]


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
    found = array(x)
    return found is not None and not np.any(found)


def brackets(index) -> str:
    return f"[{', '.join(map(str, index))}]" if index else ""


def number_text(x) -> str:
    return f"{x + 0:.6g}" if not isinstance(x, (bool, np.bool_)) else str(bool(x))  # 0 rather than -0


def used_by(node: Node, output: int) -> list[Edge]:
    """The edges by which one result of a node is used."""
    return [edge for edge in node.outgoing if edge.output == output]
