"""Layer-wise relevance propagation, and its rules for attention: relevance is a value times its signal's cotangent.

What is not a layer has one rule for all: a function f of one value passes on f(x) / x, a product of two values half to
each, a factor that is a statistic of normalization nothing, a softmax its derivative, a maximum all to the largest.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from diffprog._tracer.linearity import first_nonlinear
from diffprog.attribute._backward_rules.elementwise import ride
from diffprog.attribute._backward_rules.exponentials import keep_exponentials, sources
from diffprog.attribute._backward_rules.following import Following
from diffprog.attribute._backward_rules.layers import First, Layer, is_layer
from diffprog.attribute._backward_rules.operations import Operation, ordinary, shared, tangent
from diffprog.attribute._backward_rules.relevance_rules import Composite, Rule, passed_on
from diffprog.attribute._backward_rules.signals import Constant, Signal, is_float
from diffprog.graph._selection.selectors import Names, parse

_SELECTING = frozenset(
    "reduce_max reduce_min reduce_window_max reduce_window_min cummax cummin sort top_k gather dynamic_slice".split()
)
_TWO_SIGNALS = frozenset({"mul", "dot_general", "conv_general_dilated", "ragged_dot_general"})


class Relevance:
    """The rules of LRP.

    Attributes:
      is_paired: no baseline is carried along.
      rules: of layers.
      with_bias: whether biases keep their part of the relevance; otherwise it is divided among the inputs.
      box: bounds of the points for the rule that has them, two arrays or numbers.
    """

    is_paired = False

    def __init__(self, rules: Composite | Rule, with_bias: bool, box: Sequence[Any] | None = None):
        self.rules = rules if isinstance(rules, Composite) else Composite(rules)
        self.with_bias, self.box = with_bias, box
        self._used: set[int] = set()
        self._names = Names()
        self._parsed = [(parse(selector), rule) for selector, rule in self.rules.overrides]

    def prepare(self, signal: Signal, share: Any) -> None:
        """Remember of a point what the rules for layers that read the inputs need."""
        wide = lambda end: jnp.broadcast_to(end, signal.value.shape).astype(signal.value.dtype)
        signal.notes["first"] = First(share, signal.value, *map(wide, self.box or ()))

    def check_overrides(self) -> None:
        """Require that each override meant a layer.

        Raises:
          ValueError: one did not; the message has the nearest names.
        """
        for i, (selector, _) in enumerate(self._parsed):
            if i not in self._used:
                raise ValueError(f"an override means no layer: {self._names.nothing_for(selector.original)}")

    def elementwise(self, state: Following, operation: Operation, result: Signal) -> None:
        """Pass on f(x) / x; sums and factors as they are."""
        signals = operation.signals
        if not is_float(result.value):
            return
        keep_exponentials(operation, result)
        kept = signals[0].notes.get("exponential") if operation.name == "log" else None
        if kept is not None:
            result.passes([kept.source], lambda: kept.signal() / signals[0].value)
        elif operation.is_linear:
            self._affine(state, operation, result)
        elif result.parent is not None:
            root = result.parent
            result.passes([root], lambda: _ratio(root, result))
        else:
            result.passes([*signals, *sources(operation)], _joint(operation, result))

    def other(self, state: Following, operation: Operation, results: Sequence[Signal]) -> None:
        """Pass on what layers, moves and selections make."""
        if operation.name == "stop_gradient":
            return
        floats = [signal for signal in operation.signals if is_float(signal.value)]
        if is_layer(operation):
            state.layers += 1
            layer = Layer(operation.signals[0], operation, (), state.layers - 1)
            self._layer(state, layer, results[0])
            return
        if operation.is_linear and len(results) == 1:
            (result,) = results
            keep_exponentials(operation, result)
            self._affine(state, operation, result)
            return
        one = shared(lambda: self._others(state, operation, floats))
        for i, result in enumerate(results):
            if is_float(result.value):
                result.passes(floats, one(i))

    def _affine(self, state, operation, result):
        """Pass on what an affine operation makes; behind a layer it belongs to that."""
        if len(operation.positions) == 1:
            (signal,) = operation.signals
            layer = signal.notes.get("layer")
            longer = layer and layer.followed_by(operation)
            if longer:
                self._layer(state, longer, result)
                return
            if "first" in signal.notes and (first := signal.notes["first"].after(operation)) is not None:
                result.notes["first"] = first
        constants = any(isinstance(x, Constant) for x in operation.args)
        adds = operation.name in ("add", "add_any", "sub") and constants and not self.with_bias
        result.passes(
            operation.signals, lambda: _ratio(*operation.signals, result) if adds else operation.on_signals()[0]
        )

    def _layer(self, state, layer: Layer, result: Signal):
        result.notes["layer"] = layer
        rule = self._rule(layer, state.total_layers)
        result.passes([layer.origin], lambda: passed_on(rule, layer, result, self.with_bias))

    def _rule(self, layer: Layer, total: int | None) -> Rule:
        site = layer.product.site
        self._names.add(site)
        for i, (selector, rule) in enumerate(self._parsed):
            if selector.matches(site):
                self._used.add(i)
                return rule
        return self.rules.of(layer, total)

    def _others(self, state, operation, floats):
        if all(signal.tangent is None for signal in floats):
            return [None] * len(operation.results)
        if len(floats) == len(operation.signals) and operation.is_linear:
            return operation.on_signals()
        if operation.name in _TWO_SIGNALS and len(floats) == 2:
            return [_part(each, 2) for each in operation.derivative()]
        if operation.name in _SELECTING:
            return operation.derivative()
        if operation.name == "reduce_prod":
            count = floats[0].value.size // max(1, operation.results[0].size)
            return [_part(each, count) for each in operation.derivative()]
        if operation.name == "cumprod":
            axis = operation.params["axis"]
            counts = jnp.cumsum(jnp.ones_like(operation.results[0]), axis)
            counts = jnp.flip(counts, axis) if operation.params["reverse"] else counts
            return [_part(each, counts) for each in operation.derivative()]
        if any(not is_float(signal.value) for signal in operation.signals):
            places = zip(operation.positions, operation.signals, strict=True)
            zeros = {i: tangent(x) for i, x in places if is_float(x.value)}
            if _is_linear_in_floats(operation):
                return operation.with_operands("value", zeros)
        state.has_no_rule_for(operation)
        return ordinary(state, operation)


def _is_linear_in_floats(operation):
    traced = tuple(isinstance(x, Signal) and is_float(x.value) for x in operation.args)
    return any(traced) and first_nonlinear(operation.primitive, operation.params, traced) is None


def _part(signal, count):
    return None if signal is None else signal / count


def _ratio(root: Signal, result: Signal) -> Any:
    """Pass on f(x) / x, and where x and f(x) are zero the derivative, on the left of a kink."""
    if root.tangent is None:
        return None
    x, y = root.value, result.value
    if not is_float(x):
        return None
    slope, _ = ride(root, result, "value")
    slope = jnp.where((y == 0) & jnp.isfinite(slope), slope, 0)
    ratio = jnp.where(x == 0, slope, y.astype(x.dtype) / jnp.where(x == 0, 1, x))
    return (ratio * root.tangent).astype(y.dtype)


def _share(signal: Signal, result: Signal, count: int) -> Any:
    """Pass on one of so many equal parts of a value."""
    x = signal.value
    return jnp.where(x == 0, 0, result.value / (count * jnp.where(x == 0, 1, x))) * signal.tangent


def _joint(operation: Operation, result: Signal) -> Callable[[], Any]:
    """Make the rule of an elementwise function of several values without a common origin."""
    floats = [i for i in operation.positions if is_float(operation.args[i].value)]

    def compute():
        known = [i for i in floats if operation.args[i].tangent is not None]
        if not known:
            return None
        if operation.name == "div":
            return _quotient(operation)
        if operation.name == "mul" and len(floats) == 2:
            return _product(operation)
        if operation.name == "select_n":
            return operation.with_operands("value", {i: tangent(operation.args[i]) for i in floats})[0]
        if operation.name in ("max", "min", "clamp"):
            return operation.derivative()[0]
        return sum(_share(operation.args[i], result, len(floats)) for i in known)

    return compute


def _product(operation):
    """Pass half to each factor; all to the other where one is a statistic."""
    first, second = operation.args
    still = [bool(x.notes.get("statistic")) for x in (first, second)]
    if still[0] != still[1]:
        moving, factor = (second, first) if still[0] else (first, second)
        return tangent(moving) * factor.value
    return (tangent(first) * second.value + first.value * tangent(second)) / 2


def _quotient(operation):
    """Pass a quotient on to what is divided; a softmax by its derivative."""
    top, bottom = operation.args
    if not isinstance(top, Signal):
        return None
    plain, total = (x.notes.get("exponential") if isinstance(x, Signal) else None for x in (top, bottom))
    if plain and total and plain.source is total.source:
        y = operation.results[0]
        return (plain.signal() - y * total.signal()) / bottom.value
    return tangent(top) / bottom.value
