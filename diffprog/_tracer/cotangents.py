"""How cotangents add up.

A cotangent is an array, None for zero, or a `Window` or `Scattered`: an array that is zero except for a part. Parts
are kept apart until the sum is needed, so that a thousand rows read one by one cost a thousand rows, not a thousand
arrays (the quadratic cost of JAX issues 10197, 15906 and 17640).
"""

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax, typeof

from diffprog._jax_internals import Tracer, instantiate, zeros
from diffprog._jax_internals import add as add_arrays
from diffprog._jax_internals.references import add_to_window
from diffprog._jax_internals.sizes import are_known, are_sizes


@dataclass(frozen=True)
class Window:
    """A part of a cotangent, placed at `starts` in zeros like `aval`.

    Attributes:
      aval: type of the whole.
      part: the array.
      starts: sizes, or arrays if they are only known at run time, which are clamped as `dynamic_slice` does. The
        operation itself is bound: `lax.dynamic_slice` would first count a negative start from the end.
    """

    aval: Any
    part: Any
    starts: tuple

    @property
    def operands(self):
        return self.part, *(np.int32(s) if type(s) is int else s for s in self.starts)

    @staticmethod
    def add(whole, part, *starts):
        old = lax.dynamic_slice_p.bind(whole, *starts, slice_sizes=part.shape)
        return lax.dynamic_update_slice_p.bind(whole, add_arrays(old, part), *starts)

    def dense(self):
        if self.is_placed:
            sides = zip(self.starts, self.aval.shape, self.part.shape, strict=True)
            return lax.pad(self.part, np.zeros((), self.part.dtype), [(a, n - a - k, 0) for a, n, k in sides])
        return lax.dynamic_update_slice_p.bind(_zeros(self.aval, self.part), self.part, *self.starts)

    @property
    def is_static(self) -> bool:
        """Whether the place is known, and no size is a symbol."""
        return are_known((*self.starts, *self.aval.shape, *self.part.shape))

    @property
    def is_placed(self) -> bool:
        """Whether the place is counted in sizes."""
        return are_sizes(self.starts)


@dataclass(frozen=True)
class Scattered:
    """A part of a cotangent, placed at `indices` in zeros like `aval` by `add(whole, part, indices)`."""

    aval: Any
    part: Any
    indices: Any
    add: Callable

    @property
    def operands(self):
        return self.part, self.indices

    def dense(self):
        return self.add(_zeros(self.aval, self.part), self.part, self.indices)


def _zeros(aval, part):
    """Make zeros to place a part in; a custom rule may return a cotangent of another dtype than its argument."""
    return instantiate(aval if aval.dtype == part.dtype else aval.update(dtype=part.dtype, weak_type=False))


_PARTS = (Window, Scattered)


@dataclass
class _Sum:
    """Several cotangents of one value: the sum of the dense ones, and the parts waiting."""

    dense: Any = None
    parts: list = field(default_factory=list)


def add(total, cotangent):
    """Add one more cotangent to a total; both may be None, an array, a part or an earlier sum."""
    if cotangent is None:
        return total
    if total is None:
        return cotangent
    if type(total) is not _Sum:
        if type(total) not in _PARTS and type(cotangent) not in _PARTS:
            return add_arrays(total, cotangent)
        total = add(_Sum(), total)
    if type(cotangent) in _PARTS:
        total.parts.append(cotangent)
    else:
        total.dense = cotangent if total.dense is None else add_arrays(total.dense, cotangent)
    return total


def materialize(total):
    """Make one array of a sum; None stays None."""
    if type(total) in _PARTS:
        return total.dense()
    if type(total) is not _Sum:
        return total
    arrays = [] if total.dense is None else [total.dense]
    if any(isinstance(x, Tracer) for part in total.parts for x in part.operands):
        arrays += _staged(total.parts)
    else:
        arrays.append(_in_place(total.parts))
    return _sum(arrays)


def add_into(reference, total):
    """Add a sum, or a part of a cotangent, to a mutable array."""
    if type(total) is Window:
        add_to_window(reference, total.part, total.starts)
    else:
        jax.ref.addupdate(reference, ..., materialize(total))


def fill_zeros(cotangents: Iterable, avals: Iterable, mask: Iterable[bool] | None = None) -> list:
    """Put zeros in the place of cotangents that are None.

    Args:
      cotangents: one per value, None for zero.
      avals: types of the values.
      mask: which cotangents are returned; default all.
    """
    full = zip(cotangents, avals, itertools.repeat(True) if mask is None else mask, strict=mask is not None)
    return [instantiate(aval) if g is None else g for g, aval, flag in full if flag]


def _sum(arrays):
    total, *rest = arrays
    for x in rest:
        total = add_arrays(total, x)
    return total


def _in_place(parts):
    """Sum concrete parts. The sum is ours alone, so its memory is reused from one to the next."""
    first, *rest = parts
    total = first.dense()
    for part in rest:
        total = _donating(part.add, total, *part.operands)
    return total


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _donating(add, whole, *operands):
    return add(whole, *operands)


def _staged(parts) -> list:
    """Find arrays that sum to the sum of parts.

    Windows are joined: compilers take long over a chain of updates.
    """
    fixed = [part for part in parts if type(part) is Window and part.is_static]
    arrays = _join(fixed[0].aval.shape, [(window.starts, window.part) for window in fixed]) if fixed else []
    for part in parts:
        if type(part) is Window and part.is_placed:
            if not part.is_static:
                arrays.append(part.dense())
        else:
            arrays = [part.add(_sum(arrays), *part.operands) if arrays else part.dense()]
    return arrays


def _join(shape, boxes) -> list:
    """Find arrays of this shape that sum to the sum of the boxes (start, array), made by concatenation.

    Axis by axis, boxes that differ along that axis alone are laid side by side, with zeros between, in as many layers
    as overlap.
    """
    for axis in reversed(range(len(shape))):
        groups = defaultdict(list)
        for start, x in boxes:
            groups[start[:axis] + start[axis + 1 :], x.shape[:axis] + x.shape[axis + 1 :]].append((start[axis], x))
        boxes = []
        for (others, _), group in groups.items():
            start = (*others[:axis], 0, *others[axis:])
            boxes += [(start, _side_by_side(layer, axis, shape[axis])) for layer in _layers(group, axis)]
    return [x for _, x in boxes]


def _layers(intervals, axis) -> list:
    """Put intervals (start, array) into as few lists as possible, so that none overlaps another of its list.

    Equal intervals are added up first. Greedy by start is optimal for intervals.
    """
    equal: dict = {}
    for start, x in intervals:
        key = start, x.shape[axis]
        equal[key] = add_arrays(equal[key], x) if key in equal else x
    layers: list = []
    ends: list = []  # a heap of (end, layer)
    for (start, length), x in sorted(equal.items(), key=lambda item: item[0]):
        if ends and ends[0][0] <= start:
            layer = heapq.heappop(ends)[1]
        else:
            layer = len(layers)
            layers.append([])
        layers[layer].append((start, x))
        heapq.heappush(ends, (start + length, layer))
    return layers


def _side_by_side(intervals, axis, size):
    """Lay disjoint intervals, in ascending order, along an axis of this size, zero where there is none."""
    parts, end = [], 0

    def fill(until, like):
        if until > end:
            shape = (*like.shape[:axis], until - end, *like.shape[axis + 1 :])
            parts.append(zeros(typeof(like).update(shape=shape)))

    for start, x in intervals:
        fill(start, x)
        parts.append(x)
        end = start + x.shape[axis]
    fill(size, x)
    return lax.concatenate(parts, axis) if len(parts) > 1 else parts[0]
