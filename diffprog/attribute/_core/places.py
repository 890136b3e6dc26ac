"""Values inside a model that take the inputs' place."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import jax
import jax.numpy as jnp

from diffprog._transforms.closures import Bound, Lifted
from diffprog.graph import Selector
from diffprog.graph._interventions.replacement import Places


class Moved:
    """A function of selected values inside another one."""

    def __init__(self, places: Places, axes: Sequence[int], positions: Sequence[tuple[int, ...]], shapes: list[Any]):
        self._places, self._axes, self._positions = places, axes, positions
        self.shapes = shapes  # of each value for two examples, these first
        self.program: Lifted | Bound | None = None  # of `values`, for a block of examples

    def traced(self, program: Lifted) -> "Moved":
        """Give the places the program of their values."""
        other = copy(self)
        other.program = program
        return other

    def bound(self, first: tuple[Any, ...]) -> "Moved":
        """Give that program its first arguments."""
        other = copy(self)
        other.program = Bound(self.program, first) if isinstance(self.program, Lifted) else None
        return other

    @property
    def selectors(self) -> tuple[Selector, ...]:
        """What was asked for."""
        return self._places.selectors

    def in_order(self, by_selector: Mapping[Any, Any]) -> list[Any]:
        """Give what a dict from selector says of each value; one entry of a selector holds for all that it means."""
        names, counts = self._places.selectors, [0] * len(self._places.selectors)
        found = []
        for chosen in self._positions:
            entry = by_selector[names[chosen[0]]]
            found.append(entry[counts[chosen[0]]] if isinstance(entry, list | tuple) else entry)
            for position in chosen:
                counts[position] += 1
        return found

    def values(self, *context: Any) -> list[jax.Array]:
        """Compute the values for a batch, each (n, ...)."""
        values, _ = self._places.take(*context)
        return self.rows_first(values)

    def rows_first(self, values: Sequence[jax.Array]) -> list[jax.Array]:
        """Move the axis of examples of each value in front: (n, ...)."""
        return [jnp.moveaxis(value, axis, 0) for value, axis in zip(values, self._axes, strict=True)]

    @property
    def axes(self) -> tuple[int, ...]:
        """The axis of examples of each value: behind those of the loops that it is in."""
        return tuple(self._axes)

    def scores(self, points: Sequence[jax.Array], *context: Any) -> jax.Array:
        """Score a batch with other values in these places."""
        values = [jnp.moveaxis(value, 0, axis) for value, axis in zip(points, self._axes, strict=True)]
        return self._places.put(values, *context)

    def present(self, values: Sequence[Any]) -> dict[Any, Any]:
        """Sort arrays like the values by selector."""
        return self._places.by_selector(values, self._positions)


def moved(
    function: Callable[..., Any], at: Selector | list[Selector], context: tuple[Any, ...], first: tuple[Any, ...] = ()
) -> Moved:
    """Make selected values the argument of a function.

    Args:
      function: of (*first, *context) to scores.
      at: selectors.
      context: pytrees of arrays (n, ...).
      first: what else it takes.

    Raises:
      ValueError: a selector means nothing, or a value that does not have one part for each example.
    """
    places = Places(function, at)

    def shapes(count):
        rows = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape[1:]), leaf.dtype), context)
        positions: list[tuple[int, ...]] = []

        def values(*context):
            taken, found = places.take(*context)
            positions[:] = found
            return taken

        return jax.eval_shape(values, *first, *rows), list(positions)

    two, positions = shapes(2)
    three, _ = shapes(3)
    axes = []
    for of_two, of_three, chosen in zip(two, three, positions, strict=True):
        sizes = zip(of_two.shape, of_three.shape, strict=True)
        differing = [axis for axis, pair in enumerate(sizes) if pair == (2, 3)]
        if len(differing) != 1:
            raise ValueError(
                f"at={places.selectors[chosen[0]]!r} must mean values with one part for each example; found an array "
                f"of shape {of_two.shape} for two examples: select a value computed from the inputs"
            )
        axes += differing
    rows_first = lambda value, axis: (2, *value.shape[:axis], *value.shape[axis + 1 :])
    like = [jax.ShapeDtypeStruct(rows_first(value, axis), value.dtype) for value, axis in zip(two, axes, strict=True)]
    return Moved(places, axes, positions, like)
