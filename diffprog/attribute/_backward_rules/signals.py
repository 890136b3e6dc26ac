"""Values of a program that is followed, and the signals beside them."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp

_serials = itertools.count()


class Constant:
    """A value that does not depend on the points.

    Attributes:
      value: the array.
      uniform: the number that all its elements are, if that is known when the program is traced; else None.
    """

    __slots__ = ("uniform", "value")

    def __init__(self, value: Any, uniform: Any = None):
        self.value, self.uniform = value, uniform

    def at(self, end: str) -> Any:
        """Return the value, which is the same at both ends."""
        return self.value


class Signal:
    """A value that depends on the points, and what is passed on beside it.

    A value that is an elementwise function of one other value knows that one, its parent, and so its parent's parent:
    a whole expression of one value, however it is spelled, gets one rule.

    Attributes:
      value: the array.
      base: the same value at the baseline; None where the method has none.
      tangent: the signal, an array of floats of the same shape, linear in the points' signals; None if it is zero
        or not known. Read it after `resolve`.
      needs: the values whose signals `compute` reads.
      compute: makes the signal; called once, and only if something reads it.
      parent: the nearest value of which this one is an elementwise function, None if there is none.
      operation: the elementwise operation that made it.
      notes: what a method remembers of it.
    """

    __slots__ = (
        "base",
        "compute",
        "is_resolved",
        "needs",
        "notes",
        "operation",
        "parent",
        "serial",
        "tangent",
        "value",
    )

    def __init__(self, value: Any, base: Any = None, needs: Sequence["Signal"] = (), compute: Callable | None = None):
        self.value, self.base = value, base
        self.needs, self.compute = tuple(needs), compute
        self.tangent: Any = None
        self.is_resolved = False
        self.serial = next(_serials)
        self.parent: Signal | None = None
        self.operation: Any = None
        self.notes: dict[Any, Any] = {}

    def at(self, end: str) -> Any:
        """Return the value at one end, "value" or "base"."""
        return self.base if end == "base" else self.value

    def chain(self) -> Iterator["Signal"]:
        """Iterate over this value and those of which it is an elementwise function, the nearest first."""
        link: Signal | None = self
        while link is not None:
            yield link
            link = link.parent

    def passes(self, needs: Sequence["Signal"], compute: Callable) -> None:
        """Say how the signal is made."""
        self.needs, self.compute = tuple(needs), compute


Value = Constant | Signal


def given(value: Any, base: Any, tangent: Any) -> Signal:
    """Make a value whose signal is known."""
    signal = Signal(value, base)
    signal.tangent, signal.is_resolved = tangent, True
    return signal


def resolve(signals: Iterable[Signal]) -> None:
    """Make the signals of these values, and those that they need, in the order of the program."""
    needed: dict[int, Signal] = {}
    stack = [signal for signal in signals if not signal.is_resolved]
    while stack:
        signal = stack.pop()
        if signal.serial not in needed:
            needed[signal.serial] = signal
            stack += [other for other in signal.needs if not other.is_resolved]
    for serial in sorted(needed):
        signal = needed[serial]
        signal.tangent = None if signal.compute is None else signal.compute()
        signal.is_resolved, signal.compute = True, None


def nearest_common(signals: Sequence[Signal]) -> Signal | None:
    """Find the nearest value of which all these are elementwise functions."""
    if len(signals) == 1:
        return signals[0]
    others = [{link.serial for link in signal.chain()} for signal in signals[1:]]
    return next((link for link in signals[0].chain() if all(link.serial in other for other in others)), None)


def is_float(array: Any) -> bool:
    """Whether an array has a derivative: its elements are floating-point or complex numbers."""
    return bool(jnp.issubdtype(array.dtype, jnp.inexact))


def as_float(array: Any, dtype: Any) -> Any:
    """Take booleans and integers for numbers of this type."""
    return array if is_float(array) else array.astype(dtype)
