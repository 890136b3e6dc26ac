"""One operation of a program that is followed: its operands, its line, and what a rule needs of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

import diffprog._rules  # noqa: F401  `first_nonlinear` reads the table that it fills
from diffprog._jax_internals.sources import as_path
from diffprog._tracer.linearity import first_nonlinear
from diffprog.attribute._backward_rules.signals import Signal, Value, is_float
from diffprog.graph._recording.nodes import Frame

ENDS = ("value", "base")

ELEMENTWISE = frozenset(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp "
    "convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt igamma "
    "igammac integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg nextafter not or polygamma pow "
    "reduce_precision regularized_incomplete_beta rem round rsqrt select_n sign sin sinh sqrt square sub tan tanh "
    "xor zeta".split()
)

# They move elements, or repeat them: what holds of numbers holds of integers and booleans too.
MOVES = frozenset("broadcast_in_dim concatenate expand_dims pad reshape rev slice squeeze transpose".split())

_REDUCING = frozenset({"reduce_sum", "reduce_max", "reduce_min"})


@dataclass
class Operation:
    """An operation that depends on the points.

    Attributes:
      primitive: the primitive.
      params: its parameters.
      args: its operands.
      scopes: names of the scopes that it is in.
      frame: file, line and function of the user's that it comes from, or None.
      label: the name of the jitted function of JAX's that it is part of, or the primitive's.
      shifts_exponent: whether its result is subtracted from what is exponentiated, as the shift of a softmax is.
    """

    primitive: Any
    params: dict
    args: Sequence[Value]
    scopes: tuple[str, ...] = ()
    frame: Frame | None = None
    label: str = ""
    shifts_exponent: bool = False
    results: list = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.primitive.name

    @cached_property
    def positions(self) -> list[int]:
        """The operands that depend on the points."""
        return [i for i, x in enumerate(self.args) if isinstance(x, Signal)]

    @cached_property
    def signals(self) -> list[Signal]:
        """These operands."""
        return [x for x in self.args if isinstance(x, Signal)]

    @cached_property
    def is_linear(self) -> bool:
        """Whether it is linear in the operands that depend on the points together, or affine."""
        traced = tuple(i in self.positions for i in range(len(self.args)))
        if not all(is_float(signal.value) for signal in self.signals):
            return False
        if not all(is_float(result) for result in self.results):
            return False
        return first_nonlinear(self.primitive, self.params, traced) is None

    def bind(self, values: Sequence) -> list:
        """Run it on these operands."""
        params = self.primitive.get_bind_params(self.params)
        results = self.primitive.bind(*values, **params)
        return list(results) if self.primitive.multiple_results else [results]

    def at(self, end: str) -> list:
        """List the operands at one end."""
        return [x.at(end) for x in self.args]

    def with_operands(self, end: str, operands: dict[int, Any]) -> list:
        """Run it at one end, with other values for some of the operands."""
        return self.bind([operands.get(i, x) for i, x in enumerate(self.at(end))])

    def on_signals(self, end: str = "value") -> list:
        """Run it, affine as it is, on the signals of its operands; constants stay what they are."""
        return self.with_operands(end, {i: tangent(x) for i, x in zip(self.positions, self.signals, strict=True)})

    def derivative(self, operands: Sequence | None = None) -> list:
        """Pass on the signals by the ordinary derivative.

        Args:
          operands: where it is taken; the values by default.
        """
        operands = self.at("value") if operands is None else operands
        moving = [i for i, x in zip(self.positions, self.signals, strict=True) if is_float(x.value)]
        moving = [i for i in moving if self.args[i].tangent is not None]  # type: ignore[union-attr]
        if not moving:
            return [None] * len(self.results)

        def run(*changed):
            new = dict(zip(moving, changed, strict=True))
            results = self.bind([new.get(i, x) for i, x in enumerate(operands)])
            return [result for result in results if is_float(result)]

        at = [operands[i] for i in moving]
        tangents = [self.args[i].tangent for i in moving]  # type: ignore[union-attr]
        found = iter(jax.jvp(run, at, tangents)[1])
        return [next(found) if is_float(result) else None for result in self.results]

    @property
    def site(self) -> "Place":
        """The operation as selectors look at it."""
        return Place(self)

    def __str__(self) -> str:
        return f"{self.name} at {self.frame}" if self.frame else self.name


class Place:
    """An operation as a `Site` for selectors."""

    tap: str | None = None

    def __init__(self, operation: Operation):
        self.primitive, self.label, self.params = operation.name, operation.label, operation.params
        self.path, self.source = as_path(operation.scopes), operation.frame
        self._results, self._is_single = operation.results, not operation.primitive.multiple_results

    @property
    def shape(self) -> Any:
        """Shape of the result, or the list of the results' shapes."""
        return self._one("shape")

    @property
    def dtype(self) -> Any:
        """Type of the result, or the list of the results' types."""
        return self._one("dtype")

    def _one(self, name):
        values = [getattr(result, name) for result in self._results]
        return values[0] if self._is_single else values


def remember_statistics(operation: Operation, result: Signal) -> None:
    """Remember sums and maxima over axes, and elementwise functions of them: spread over elements again, statistics.

    A product with a statistic, as of layer normalization, has rules of its own.
    """
    if operation.name not in ELEMENTWISE | MOVES | _REDUCING:
        return
    has = lambda note: all(signal.notes.get(note) for signal in operation.signals)
    result.notes["reduced"] = operation.name in _REDUCING or has("reduced")
    grows = operation.name == "broadcast_in_dim" and result.value.size > operation.signals[0].value.size
    result.notes["statistic"] = operation.name not in _REDUCING and (has("statistic") or (has("reduced") and grows))


def ordinary(state: Any, operation: Operation) -> list:
    """Pass signals on by the derivative; none where there is none, which `state` takes note of."""
    try:
        return operation.derivative()
    except NotImplementedError:
        state.has_no_rule_for(operation, ", which has no derivative")
        return [None] * len(operation.results)


def tangent(signal: Value) -> Any:
    """Read a signal; zeros where it is not known, and for a constant."""
    known = signal.tangent if isinstance(signal, Signal) else None
    return jnp.zeros_like(signal.value) if known is None else known


def shared(compute: Callable[[], Sequence]) -> Callable[[int], Callable[[], Any]]:
    """Make, of what computes the signals of all results at once, what gets that of one."""
    results: list = []

    def one(index):
        def get():
            if not results:
                results.append(compute())
            return results[0][index]

        return get

    return one
