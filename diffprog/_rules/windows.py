"""Pooling: reductions over sliding windows.

A window's elements are read by one strided slice per offset within the window, so that the derivative of any
window reduction is that of slices, comparisons and sums. This holds for every stride and dilation, needs no
scatter, and lets XLA fuse the whole into one loop.
"""

from functools import partial, reduce
from itertools import product

import numpy as np
from jax import lax, typeof

from diffprog._jax_internals import eval_jaxpr, instantiate, select_and_gather_add, select_and_scatter_add
from diffprog._jax_internals.sizes import are_known, extent
from diffprog._rules.via_equivalent_program import on_arrays, pullback_of, via_program
from diffprog._tracer.rules import compiled, rule


def _offset_slices(x, fill, params) -> list:
    """List, for each offset within the window, the array of the elements there, one per window."""
    window, strides = params["window_dimensions"], params["window_strides"]
    spread = params.get("base_dilation") or (1,) * x.ndim
    dilation = params.get("window_dilation") or (1,) * x.ndim
    config = [(low, high, step - 1) for (low, high), step in zip(params["padding"], spread, strict=True)]
    padded = lax.pad(x, fill, config)
    counts = [
        max((size - (n - 1) * d - 1) // step + 1, 0)
        for size, n, d, step in zip(padded.shape, window, dilation, strides, strict=True)
    ]
    if 0 in counts:
        return [lax.full(counts, 0, x.dtype)]

    def elements(offset):
        starts = [o * d for o, d in zip(offset, dilation, strict=True)]
        ends = [start + (n - 1) * step + 1 for start, n, step in zip(starts, counts, strides, strict=True)]
        return lax.slice(padded, starts, ends, strides)

    return [elements(offset) for offset in product(*map(range, window))]


@rule("reduce_window_sum")
def _sum(primitive, needs_grad, args, params):
    """Sum the cotangent, spread by the strides and padded, over the reversed window."""
    (x,) = args
    aval = typeof(x)
    window, strides, padding = params["window_dimensions"], params["window_strides"], params["padding"]
    spread, dilation = params["base_dilation"], params["window_dilation"]

    def pull(g):
        if 0 in g.shape or 0 in aval.shape:
            return (instantiate(aval),)
        window_extent = extent(window, dilation)
        low = [w - 1 - a for w, (a, _) in zip(window_extent, padding, strict=True)]
        high = [
            size + w - 1 - out - before
            for size, w, out, before in zip(
                extent(aval.shape, spread), window_extent, extent(g.shape, strides), low, strict=True
            )
        ]
        config = [(a, b, step - 1) for a, b, step in zip(low, high, strides, strict=True)]
        padded = lax.pad(g, np.zeros((), g.dtype), config)
        return (
            lax.reduce_window(
                padded, np.zeros((), g.dtype), lax.add, window, spread, [(0, 0)] * g.ndim, window_dilation=dilation
            ),
        )

    return primitive.bind(x, **params), pull


_WHOLE = (1, 1, (0, 0))  # size, stride and padding of a window along an axis that it leaves as it is
_MOST_SLICES = 64  # longer windows would make a program of as many operations: XLA's own scatter is used there


@rule("reduce_window_max", "reduce_window_min")
def _extreme(primitive, needs_grad, args, params):
    """Send a window's cotangent to its first element that has the extreme value."""
    (x,) = args
    is_max = primitive.name == "reduce_window_max"
    y = primitive.bind(x, **params)
    place = tuple(params[name] for name in ("window_dimensions", "window_strides", "padding"))
    if {*params["base_dilation"], *params["window_dilation"]} != {1}:
        return y, pullback_of(lambda x: _first_extremes(x, y, is_max, params), needs_grad, args)
    slid = [n for n, window in zip(x.shape, zip(*place, strict=True), strict=True) if window != _WHOLE]
    if sum(params["window_dimensions"]) - x.ndim > _MOST_SLICES or not are_known(slid):
        return y, lambda g: (select_and_scatter_add(g, x, is_max, *place),)
    return y, lambda g: (_to_extremes(x, g, is_max, tuple(zip(*place, strict=True))),)


def _lowest(dtype, is_max):
    return np.asarray(-np.inf if is_max else np.inf, dtype)


def _first_extremes(x, y, is_max, params):
    """Compute `y` so that it depends on `x` at the first element of each window that has the extreme value."""
    done, total = lax.full_like(y, False, bool), lax.full_like(y, 0)
    for part in _offset_slices(x, _lowest(x.dtype, is_max), params):
        hit = lax.bitwise_and(lax.eq(part, y), lax.bitwise_not(done))
        total = lax.select(hit, part, total)
        done = lax.bitwise_or(done, hit)
    return total


@compiled("is_max", "windows")
def _to_extremes(x, g, is_max, windows):
    """Pull back to `x`, axis by axis.

    A window's first extreme element in row-major order is the first along the last axis within the first along the
    axes before.

    Args:
      x: the operand.
      g: cotangent of the result.
      is_max: whether the extreme value is the largest.
      windows: (size, stride, padding) per axis.
    """
    better, levels = lax.max if is_max else lax.min, []
    for axis in reversed(range(x.ndim)):
        if windows[axis] != _WHOLE:
            size, candidates = x.shape[axis], _along(x, axis, windows[axis], is_max)
            x = reduce(better, candidates)
            levels.append((axis, size, candidates, x))
    for axis, size, candidates, y in reversed(levels):
        g = _overlay(_to_first(candidates, y, g), axis, windows[axis], size)
    return g


def _to_first(candidates, y, g) -> list:
    """Make, for each candidate, `g` where it is the first that equals `y`, and 0 elsewhere."""
    zero, sent, hit = lax.full_like(g, 0), [], None
    for candidate in candidates:
        g = g if hit is None else lax.select(hit, zero, g)
        hit = lax.eq(candidate, y)
        sent.append(lax.select(hit, g, zero))
    return sent


def _along(x, axis, window, is_max) -> list:
    """List, for each offset within a window along one axis, the elements there, one per window."""
    size, stride, (low, high) = window
    x = _pad_axis(x, axis, low, high, -np.inf if is_max else np.inf)
    last = x.shape[axis] - size
    return [lax.slice_in_dim(x, k, k + last + 1, stride, axis) for k in range(size)]


def _overlay(parts, axis, window, size):
    """Transpose `_along`: add each part k at k, k + stride, ..."""
    _, stride, (low, _) = window
    reach = (parts[0].shape[axis] - 1) * stride + 1
    spread = (_pad_axis(part, axis, k - low, size - (k - low) - reach, 0, stride - 1) for k, part in enumerate(parts))
    return reduce(lax.add, spread)


def _pad_axis(x, axis, low, high, fill, between=0):
    if low == high == between == 0:
        return x
    config = [(low, high, between) if d == axis else (0, 0, 0) for d in range(x.ndim)]
    return lax.pad(x, np.asarray(fill, x.dtype), config)


@rule("select_and_scatter_add")
def _select_and_scatter_add(primitive, needs_grad, args, params):
    """Read back what a linear operation adds to the source: where windows have their extreme value."""
    source, operand = args
    is_max = params["select_prim"].name == "ge"
    place = (params["window_dimensions"], params["window_strides"], params["padding"])
    return primitive.bind(source, operand, **params), lambda g: (
        select_and_gather_add(g, operand, is_max, *place),
        None,
    )


@rule("select_and_gather_add")
def _select_and_gather_add(primitive, needs_grad, args, params):
    """Transpose a reading of tangents where the operand's windows have their extreme value."""
    tangents, operand = args
    is_max = params["select_prim"].name == "ge"
    fill, better = np.asarray(-np.inf if is_max else np.inf, operand.dtype), lax.gt if is_max else lax.lt

    def program(tangents):
        values = _offset_slices(operand, fill, params)
        candidates = _offset_slices(tangents, np.zeros((), tangents.dtype), params)
        best, chosen = values[0], candidates[0]
        for value, candidate in zip(values[1:], candidates[1:], strict=True):
            wins = better(value, best)
            best, chosen = lax.select(wins, value, best), lax.select(wins, candidate, chosen)
        return chosen

    pull = pullback_of(program, (True,), (tangents,))
    return primitive.bind(tangents, operand, **params), lambda g: (*pull(g), None)


@rule("reduce_window")
def _reduce_window(primitive, needs_grad, args, params):
    """Differentiate any associative function, applied offset by offset."""
    num_operands = len(args) // 2
    if any(needs_grad[num_operands:]):
        raise NotImplementedError(
            "lax.reduce_window has no derivative with respect to its initial values: "
            "combine them with the result instead"
        )
    combine = on_arrays(partial(eval_jaxpr, params["jaxpr"], params["consts"]))

    def program(*operands):
        pairs = zip(operands[:num_operands], operands[num_operands:], strict=True)
        offsets = list(zip(*(_offset_slices(x, start, params) for x, start in pairs), strict=True))
        totals = [lax.full(part.shape, start) for part, start in zip(offsets[0], operands[num_operands:], strict=True)]
        for parts in offsets:
            totals = combine(*totals, *parts)
        return list(totals)

    return via_program(primitive, needs_grad, args, params, program)
