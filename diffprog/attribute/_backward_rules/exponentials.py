"""Exponentials, until they are divided by their sum: a softmax passes on its derivative, however it is spelled."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from diffprog.attribute._backward_rules.operations import Operation, tangent
from diffprog.attribute._backward_rules.signals import Constant, Signal, is_float

_LINEAR = frozenset(
    "mul div neg select_n convert_element_type broadcast_in_dim reshape squeeze expand_dims transpose "
    "reduce_sum".split()
)


class Exponential:
    """What a linear function of exponentials would pass on by its derivative, kept in case.

    Attributes:
      source: what is exponentiated.
      signal: makes it, once the source's signal is known.
    """

    def __init__(self, source: Signal, signal: Callable[[], Any]):
        self.source, self.signal = source, signal

    def then(self, run: Callable[[Any], Any]) -> "Exponential":
        """Apply a linear function to it."""
        return Exponential(self.source, lambda: run(self.signal()))


def keep_exponentials(operation: Operation, result: Signal) -> None:
    """Remember of a result that it is an exponential, or linear in one."""
    if not is_float(result.value):
        return
    if operation.name == "exp":
        (source,) = operation.signals
        result.notes["exponential"] = Exponential(source, lambda: result.value * tangent(source))
        return
    if len(operation.signals) != 1:
        return
    (signal,), (position,) = operation.signals, operation.positions
    kept = signal.notes.get("exponential")
    if kept is None:
        return
    if operation.name == "abs":
        result.notes["exponential"] = kept.then(lambda moved: jnp.sign(signal.value) * moved)
    elif operation.name in _LINEAR and operation.is_linear:
        result.notes["exponential"] = kept.then(lambda moved: _through(operation, position, moved))


def _through(operation, position, moved):
    operands = {position: moved}
    if operation.name == "select_n":
        others = [i for i, x in enumerate(operation.args) if isinstance(x, Constant) and i > 0]
        operands |= {i: jnp.zeros_like(operation.args[i].value) for i in others}
    return operation.with_operands("value", operands)[0]


def sources(operation: Operation) -> list[Signal]:
    """List what the exponentials among the operands exponentiate."""
    kept = [signal.notes.get("exponential") for signal in operation.signals]
    return [each.source for each in kept if each is not None]
