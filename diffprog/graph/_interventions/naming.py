"""Run a function with its values named: each by what it is, and by its place among those of its kind.

A value is seen when its operation is called. That says little of its place: the body of a loop may be traced more than
once, and a function that is traced once may be called twice. So a value is tagged where it is seen, and named when the
program is complete. For others who look on, such as `grad_at`, it must have its name where it is computed: the function
runs with names that are expected, and once more if these were wrong.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from diffprog._jax_internals import is_array_type, take_current_trace
from diffprog._jax_internals.interception import Interceptor, intercepting, scopes_around
from diffprog._jax_internals.tagging import Tag, tagged
from diffprog.graph._interventions.capture import run_captured
from diffprog.graph._interventions.intervene import RunningSite
from diffprog.graph._selection.module_paths import named_modules
from diffprog.graph._selection.selectors import full_name
from diffprog.graph._selection.tap import LayerName

MAX_RUNS = 4


class Kind(NamedTuple):
    """What the values of one name are, before they are counted.

    Attributes:
      name: a tap's or a module's name with its path, or an operation's label.
      is_tap: whether it is one of the first two.
    """

    name: str
    is_tap: bool

    def counted(self, place: int) -> str:
        """Name the value in a place among those of this kind, from 1."""
        if self.is_tap:
            return self.name if place == 1 else f"{self.name}#{place}"
        return f"{self.name}#{place}"


@dataclass(frozen=True, eq=False)
class Naming:
    """Runs a function with values of some kinds named.

    Values that are no floats have no names, nor those in a `while` loop, which cannot be taken out of it.

    Attributes:
      taps: whether taps and modules are named; else operations are.
      kinds: the kinds of these that are named; all if it is None.
    """

    taps: bool
    kinds: frozenset[Kind] | None = None

    @cached_property
    def _expected(self) -> dict[Hashable, tuple[str | None, ...]]:
        return {}

    def _is_chosen(self, kind):
        return kind.is_tap == self.taps and (self.kinds is None or kind in self.kinds)

    def run(self, function: Callable, args: Iterable, like: Hashable = None) -> tuple[Any, list[tuple[str, Any]]]:
        """Run a function.

        Args:
          function: any function.
          args: its arguments.
          like: runs of which this is equal are expected to compute the same values.

        Returns:
          What it returns, and (name, value) of each chosen value, in the order of the program. A value in a `scan` has
          those of all iterations, index first; in a branch of a `cond` that is not taken, zeros.
        """
        for _ in range(MAX_RUNS):
            run = _Run(self._is_chosen, self._expected.get(like))
            output, values = run.values(function, args)
            names = run.names([number for number, _ in values])
            found = dict.fromkeys(range(run.num_seen))
            found |= {number: name for (number, _), name in zip(reversed(values), reversed(names), strict=True)}
            if all(run.given.get(number) == name for number, name in found.items() if name is not None):
                break
            self._expected[like] = tuple(found.values())
        return output, [(name, value) for name, (_, value) in zip(names, values, strict=True)]


class _Run:
    """One run: it sees values, and tags each with its number. JAX's caches keep it, so it holds no values."""

    skips_unreachable = True
    selectors = ()

    def __init__(self, is_chosen, expected):
        self._is_chosen, self._expected, self._outer_scopes = is_chosen, expected, len(scopes_around())
        self._kinds: list[Kind] = []
        self._counts: Counter[Kind] = Counter()
        self.given: dict[int, str] = {}

    @property
    def num_seen(self):
        return len(self._kinds)

    def values(self, function, args):
        """Run the function: what it returns, and (number, value) of each value in the program."""
        with take_current_trace() as parent, named_modules():
            interceptor = Interceptor(self._see, by_path=True, by_line=True)

            def intercepted(*args):
                # As under JAX's transformations, arguments are rebuilt: NNX lets only the trace that made a variable
                # change it.
                own_args = jax.tree.map(lambda x: x, args)
                with intercepting(interceptor):
                    return function(*own_args)

            output, captured = run_captured(intercepted, args, self, None, parent)
        return output, [(tag.selectors[0], value) for tag, value in captured]

    def names(self, numbers):
        """Name values by their places in the program."""
        counts: Counter[Kind] = Counter()
        names = []
        for number in numbers:
            kind = self._kinds[number]
            counts[kind] += 1
            names.append(kind.counted(counts[kind]))
        return names

    def _see(self, operation):
        if isinstance(operation.params.get("name"), Tag | LayerName):
            return operation.results
        site = RunningSite(operation, self._outer_scopes)
        kind = Kind(site.label, False) if site.tap is None else Kind(full_name(site), True)
        if not self._is_chosen(kind):
            return operation.results
        values = [self._named(value, kind) if _is_float(value) else value for value in site.values]
        return values[0] if site.single else values

    def _named(self, value, kind):
        number = len(self._kinds)
        self._kinds.append(kind)
        name = self._expectation(number, kind)
        if name is not None:
            self.given[number] = name
            if name != kind.name:
                value = checkpoint_name(value, LayerName(name))
        return tagged(value, Tag(self, (number,)))

    def _expectation(self, number, kind):
        if self._expected is not None:
            return self._expected[number] if number < len(self._expected) else None
        self._counts[kind] += 1
        return kind.counted(self._counts[kind])


def _is_float(value):
    return is_array_type(value) and jnp.issubdtype(value.dtype, jnp.floating)
