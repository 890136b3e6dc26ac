"""Differences of maxima and sorted values, shared among the elements that make them.

A maximum y of x, and y0 of the baseline x0, differ by no more than the present winner does, and by no less than the
winner of the baseline does: y - y0 is a mean of the two differences. With the weights of that mean as multipliers the
sum is exact, no division is by a small number, and elements that tie share alike. Sums of the k largest elements are
maxima too (over sets of k), which gives the rule for sorting.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from diffprog.attribute._backward_rules.signals import Signal


def weight(up: Any, high: Any, low: Any) -> Any:
    """Find the weight of `high` in the mean of `high` and `low` that is `up`."""
    over = high - low
    share = jnp.where(over == 0, 0.5, (up - low) / jnp.where(over == 0, 1, over))
    return jnp.clip(share, 0, 1).astype(up.dtype)


def of_axes(x: Any, x0: Any, y: Any, y0: Any, axes: tuple[int, ...]) -> Any:
    """Compute the multipliers, of the shape of `x`, of a maximum or minimum over axes.

    Args:
      x: the elements.
      x0: those at the baseline.
      y: the maximum, without these axes.
      y0: that at the baseline.
      axes: the axes.
    """
    wide, wide0 = jnp.expand_dims(y, axes), jnp.expand_dims(y0, axes)
    winners, winners0 = (x == wide).astype(x.dtype), (x0 == wide0).astype(x.dtype)
    winners = winners / jnp.maximum(winners.sum(axes, keepdims=True), 1)
    winners0 = winners0 / jnp.maximum(winners0.sum(axes, keepdims=True), 1)
    moved = jnp.where(jnp.isfinite(x) & jnp.isfinite(x0), x - x0, 0)
    high = (winners * moved).sum(axes, keepdims=True)
    low = (winners0 * moved).sum(axes, keepdims=True)
    share = weight(wide - wide0, high, low)
    return share * winners + (1 - share) * winners0


def reduced(operation: Any, signal: Signal) -> Any:
    """Pass on the signal of a maximum or minimum over axes."""
    axes = tuple(operation.params["axes"])
    (y,) = operation.results
    y0 = operation.with_operands("base", {})[0]
    multipliers = of_axes(signal.value, signal.base, y, y0, axes)
    return (multipliers * signal.tangent).sum(axes)


def windows(x: Any, params: dict, fill: Any) -> Any:
    """Collect the elements of each window along a new first axis.

    Args:
      x: the array.
      params: of a `reduce_window`.
      fill: what stands outside of the array.
    """
    ends = zip(params["padding"], params["base_dilation"], strict=True)
    padded = lax.pad(x, jnp.asarray(fill, x.dtype), [(low, high, dilation - 1) for (low, high), dilation in ends])
    sizes, dilations = np.array(params["window_dimensions"]), np.array(params["window_dilation"])
    spans = (sizes - 1) * dilations
    cut = []
    for offset in np.ndindex(*sizes):
        start = np.array(offset) * dilations
        stop = start + np.array(padded.shape) - spans
        cut.append(lax.slice(padded, start.tolist(), stop.tolist(), params["window_strides"]))
    return jnp.stack(cut)


def of_windows(operation: Any, signal: Signal, y: Any, y0: Any, is_max: bool) -> Any:
    """Pass on the signal of a maximum or minimum over windows."""
    fill = -jnp.inf if is_max else jnp.inf
    x, x0 = (windows(end, operation.params, fill) for end in (signal.value, signal.base))
    multipliers = of_axes(x, x0, y, y0, (0,))
    return (multipliers * windows(signal.tangent, operation.params, 0)).sum(0)


def cumulative(operation: Any, signal: Signal, y: Any, y0: Any, is_max: bool) -> Any:
    """Pass on the signal of a running maximum or minimum: each result is one over the elements up to it."""
    axis, length = operation.params["axis"], signal.value.shape[operation.params["axis"]]
    upto = np.tri(length, dtype=bool)
    upto = upto.T if operation.params["reverse"] else upto
    fill = -jnp.inf if is_max else jnp.inf
    last = lambda array: jnp.moveaxis(array, axis, -1)
    seen = lambda array, fill: jnp.where(upto, last(array)[..., None, :], jnp.asarray(fill, array.dtype))
    multipliers = of_axes(seen(signal.value, fill), seen(signal.base, fill), last(y), last(y0), (y.ndim,))
    return jnp.moveaxis((multipliers * seen(signal.tangent, 0)).sum(-1), -1, axis)


def of_sorted(keys: Signal, order: Callable[[Any], Any], axis: int) -> Any:
    """Pass on the signal of sorted values, by that of the sums of the first k of them.

    Args:
      keys: what is sorted.
      order: array -> the order of its elements along the axis.
      axis: the axis.
    """
    x, x0, tangent = keys.value, keys.base, keys.tangent
    now, before = order(x), order(x0)
    take = lambda array, index: jnp.take_along_axis(array, index, axis)
    moved = x - x0
    up = take(x, now) - take(x0, before)
    total = lambda array: jnp.cumsum(array, axis)
    share = weight(total(up), total(take(moved, now)), total(take(moved, before)))
    sums = share * total(take(tangent, now)) + (1 - share) * total(take(tangent, before))
    return jnp.diff(sums, axis=axis, prepend=jnp.zeros_like(lax.slice_in_dim(sums, 0, 1, axis=axis)))


def order_of(axis: int, descending: bool = False) -> Callable[[Any], Any]:
    """Make the function that finds the order of elements along an axis."""
    return lambda array: jnp.argsort(array, axis, stable=True, descending=descending)


def of_product(operation: Any, signal: Signal) -> Any:
    """Pass on the signal of a product of many elements: the mean derivative on the straight way between the ends.

    It is a polynomial in the position on the way, which Gauss and Legendre's quadrature integrates exactly.
    """
    axes = operation.params.get("axes", (operation.params.get("axis"),))
    degree = int(np.prod([signal.value.shape[axis] for axis in axes])) - 1
    return along_path(operation, [signal], max(1, (degree + 2) // 2))


def along_path(operation: Any, signals: list[Signal], points: int) -> Any:
    """Average the derivative of an operation on the straight way from the baseline to the values."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    total = None
    for node, share in zip((nodes + 1) / 2, weights / 2, strict=True):
        between = [
            x.at("base") + jnp.asarray(node, x.value.dtype) * (x.value - x.at("base")) if x in signals else x.value
            for x in operation.args
        ]
        part = [None if t is None else jnp.asarray(share, t.dtype) * t for t in operation.derivative(between)]
        total = part if total is None else jax.tree.map(jnp.add, total, part)
    return total
