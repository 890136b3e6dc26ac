"""A unit inside a model as a model of its own, which every method explains."""

from collections.abc import Callable
from types import EllipsisType
from typing import Any

import jax

from diffprog._util.promotion import own_promotion
from diffprog.attribute._core.places import moved
from diffprog.graph import Selector

Index = int | tuple[int | slice | EllipsisType, ...] | None


def unit(model: Callable[..., Any], at: Selector, index: Index = None) -> Callable[[Any], jax.Array]:
    """Make a model of what a unit inside another model says.

    Give it to any method to know what makes the unit speak: `integrated_gradients(unit(model, "hidden", 3), inputs)`.

    Args:
      model: a function from a batch to anything.
      at: selector of one value inside it, with one part for each example.
      index: which unit of the value: an int for the last axis (a neuron, a channel), or a tuple for the axes behind
        that of the examples; of a value in a `scan` the first of these is the iteration. What remains is averaged; None
        averages all.

    Returns:
      A function from a batch to one number per example. When it is called, a selector that means nothing or several
      values, and an index that does not fit, is a ValueError.
    """
    place = (..., index) if isinstance(index, int) else index

    @own_promotion()
    def of_unit(inputs: Any) -> jax.Array:
        found = moved(model, at, (inputs,)).values(inputs)
        if len(found) != 1:
            raise ValueError(f"{at!r} means {len(found)} values: select one of them, by a tap for example")
        (value,) = found
        try:
            chosen = value if place is None else value[(slice(None), *place)]
        except (IndexError, TypeError):
            chosen = None
        if chosen is None or not _fits(place, value.shape[1:]):
            raise ValueError(f"index {index!r} is none of the value at {at!r}, of shape {value.shape[1:]} per example")
        return chosen.reshape(len(chosen), -1).mean(axis=1)

    return of_unit


def _fits(place, shape) -> bool:
    """Whether whole numbers are within their axes, which JAX does not check."""
    if place is None:
        return True
    dots = place.index(...) if ... in place else len(place)
    behind = place[dots + 1 :]
    pairs = [*zip(place[:dots], shape, strict=False), *zip(reversed(behind), reversed(shape), strict=False)]
    return all(not isinstance(i, int) or -size <= i < size for i, size in pairs)
