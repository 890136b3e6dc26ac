"""Selected values of a function as arguments of it: any value inside a program takes the inputs' place."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from diffprog._jax_internals import take_current_trace
from diffprog._jax_internals.tagging import Tag, tagged
from diffprog.graph._interventions.capture import run_captured
from diffprog.graph._interventions.intervene import Intervention
from diffprog.graph._selection.selectors import Selector


class _Replacing(Intervention):
    """Tags the selected values, and has them replaced."""

    replaces = True


class Places:
    """Selected values of a function: what they are, and the function of them.

    Values in a `scan` are those of all iterations, index first; in a `vmap` those of all examples; in a branch of a
    `cond` that is not taken, zeros. Both methods may be traced by JAX.
    """

    def __init__(self, function: Callable[..., Any], selectors: Selector | Iterable[Selector], name: str = "at"):
        """Parse the selectors.

        Args:
          function: any function.
          selectors: a selector (see `dp.graph`) or several.
          name: what asks, for messages.

        Raises:
          TypeError: a selector is neither text nor a function.
          ValueError: there is no selector.
        """
        several = [selectors] if isinstance(selectors, str) or callable(selectors) else list(selectors)
        if not several:
            raise ValueError(f"{name} takes a selector or a list of them; found an empty list")
        self.selectors: tuple[Selector, ...] = tuple(several)
        self._function, self._name = function, name

    def take(self, *args: Any) -> tuple[list[jax.Array], list[tuple[int, ...]]]:
        """Run the function, and take the values out.

        Args:
          *args: of the function.

        Returns:
          The values in the order in which they are computed, and for each the positions of the selectors that mean it.

        Raises:
          ValueError: a selector means nothing, no float, or a value that cannot be taken out.
        """
        intervention = self._intervention()
        with take_current_trace() as parent:
            _, captured = self._run(intervention, args, None, parent)
        return [value for _, value in captured], [tag.selectors for tag, _ in captured]

    def put(self, values: Sequence[jax.Array], *args: Any) -> Any:
        """Run the function with other values in these places.

        Args:
          values: as `take` gives them.
          *args: of the function.

        Returns:
          What it returns.
        """
        supply = iter(values)
        with take_current_trace() as parent:
            result, _ = self._run(self._intervention(), args, lambda _: next(supply), parent)
        return result

    def by_selector(self, values: Sequence[Any], positions: Sequence[tuple[int, ...]]) -> dict[Any, Any]:
        """Sort values by their selectors: a selector that means several has the list of them."""
        selected: list[list[Any]] = [[] for _ in self.selectors]
        for value, of_value in zip(values, positions, strict=True):
            for position in of_value:
                selected[position].append(value)
        pairs = zip(self.selectors, selected, strict=True)
        return {selector: each[0] if len(each) == 1 else each for selector, each in pairs}

    def _intervention(self):
        intervention: _Replacing

        def act(value, chosen, _):
            return tagged(value, Tag(intervention, chosen))

        intervention = _Replacing(self._name, self.selectors, act, True)
        return intervention

    def _run(self, intervention, args, replacement, parent):
        def run():
            own_args = jax.tree.map(lambda x: x, args)  # NNX lets only the trace that made a variable change it
            with intervention.intercepting():
                return self._function(*own_args)

        return run_captured(run, (), intervention, replacement, parent)
