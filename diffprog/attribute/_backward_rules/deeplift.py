"""DeepLIFT: differences from a baseline, shared by multipliers that make every sum exact."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from diffprog._tracer.linearity import first_nonlinear
from diffprog.attribute._backward_rules import extremes
from diffprog.attribute._backward_rules.elementwise import secant, slope_in
from diffprog.attribute._backward_rules.following import Following
from diffprog.attribute._backward_rules.operations import ENDS, MOVES, Operation, ordinary, shared, tangent
from diffprog.attribute._backward_rules.signals import Constant, Signal, Value, as_float, given, is_float

QUADRATURE = 8  # points of the rules that integrate the derivative of a smooth operation
_COMPARISONS = frozenset({"gt", "lt", "ge", "le", "eq", "ne"})
_PRODUCTS = frozenset({"mul", "dot_general", "conv_general_dilated", "ragged_dot_general"})
_SMOOTH = frozenset("cumlogsumexp cholesky triangular_solve tridiagonal_solve eigh qr svd".split())


class DeepLift:
    """The rescale rule, for every operation.

    Attributes:
      is_paired: the values at the baseline are carried along.
    """

    is_paired = True

    def elementwise(self, state: Following, operation: Operation, result: Signal) -> None:
        """Take the secant of a function of one value; share among several."""
        signals = operation.signals
        root = result.parent
        if operation.is_linear:
            result.passes(signals, lambda: operation.on_signals()[0] if _any(signals) else None)
        elif root is not None:
            result.passes([root], lambda: _scaled(secant(root, result), root, result))
        else:
            result.passes(signals, lambda: self.joint(state, operation, result))

    def joint(self, state: Following, operation: Operation, result: Signal) -> Any:
        """Share the difference of an elementwise function of several values that have no common origin."""
        if not _any(operation.signals):
            return None
        if operation.name == "mul":
            return _elementwise_product(operation)
        if operation.name == "div":
            return _quotient(operation)
        if operation.name == "select_n":
            return _selection(state, operation)
        if operation.name == "clamp":
            return _clamped(operation)
        if operation.name in _COMPARISONS:
            return _comparison(operation, result)
        if operation.name in ("max", "min"):
            return self.larger(operation, result)
        return shapley(operation, result)

    def larger(self, operation: Operation, result: Signal) -> Any:
        """Share the maximum or minimum of two values: y = a + relu(b - a), by the secant of the ReLU."""
        return _larger(operation.args[0], operation.args[1], operation.name == "max")

    def other(self, state: Following, operation: Operation, results: Sequence[Signal]) -> None:
        """Share the differences of the results of an operation that is not elementwise."""
        rule = _TABLE.get(operation.name)
        if rule is not None:
            rule(state, operation, results)
            return
        floats = [signal for signal in operation.signals if is_float(signal.value)]
        if operation.name in MOVES and not floats:
            (result,) = results
            result.passes(operation.signals, lambda: _moved_choice(operation))
            return
        for result in results:
            if not is_float(result.value):
                result.passes([], lambda: state.has_no_rule_for(operation))
        one = shared(lambda: _linear_or_ordinary(state, operation))
        for i, result in enumerate(results):
            if is_float(result.value):
                result.passes(operation.signals, one(i))


def _any(signals) -> bool:
    return any(signal.tangent is not None for signal in signals)


def _scaled(multiplier, root, result):
    if root.tangent is None:
        return None
    scaled = multiplier.astype(root.tangent.dtype) * root.tangent
    return scaled.astype(result.value.dtype) if is_float(result.value) else scaled


# ---------------------------------------------------------------- elementwise functions of several values


def _numbers(x: Value, end: str, dtype) -> Any:
    return as_float(jnp.asarray(x.at(end)), dtype)


def _signal(x: Value) -> Any:
    return x.tangent if isinstance(x, Signal) and x.tangent is not None else 0


def shapley(operation: Operation, result: Signal) -> Any:
    """Share the difference of a function of two values by Shapley's formula, and divide by their own differences."""
    dtype = result.value.dtype if is_float(result.value) else jnp.zeros(()).dtype
    total = None
    for i, signal in zip(operation.positions, operation.signals, strict=True):
        if signal.tangent is not None:
            part = _shapley_multiplier(operation, i, signal, dtype) * signal.tangent.astype(dtype)
            total = part if total is None else total + part
    return total


def _shapley_multiplier(operation, i, signal, dtype):
    up: Any = 0
    slope: Any = 0
    size: Any = 0
    for end in ENDS:
        others = operation.at(end)
        there, back = (as_float(operation.with_operands(end, {i: x})[0], dtype) for x in (signal.value, signal.base))
        up, size = up + (there - back) / 2, size + abs(there) + abs(back)
        if is_float(signal.value) and is_float(operation.results[0]):
            slope = slope + sum(slope_in(operation, others, i, x) for x in (signal.value, signal.base)) / 4
    over = as_float(signal.value, dtype) - as_float(signal.base, dtype)
    quotient = jnp.where(over == 0, 0, up / jnp.where(over == 0, 1, over))
    explained = abs(up - slope * over) <= 2 * jnp.finfo(dtype).eps * size
    return jnp.where(explained & jnp.isfinite(slope), slope, quotient)


def product(operation: Operation) -> Any:
    """Share a product: each factor's difference times the mean of the other's values. The sum is exact."""
    first, second = operation.args
    middle = lambda x: x.value if isinstance(x, Constant) else x.base + (x.value - x.base) / 2
    return operation.derivative([middle(first), middle(second)])[0]


def _times(a: tuple[Any, Any, Any], b: tuple[Any, Any, Any], has_statistic: bool) -> Any:
    """Share a product of two values, each given by (value, base, signal).

    Da (w b + (1 - w) b0) + Db (w a0 + (1 - w) a) is the difference for any w. Shapley's is 1/2. Where one factor is a
    statistic of normalization, it can be a thousand times larger at a baseline without variance than at the input, and
    halves of it would cancel: there w favors the order of changes with the smaller terms.
    """
    (x, x0, passed), (y, y0, other) = a, b
    w: Any = 0.5
    if has_statistic:
        first, last = (abs(x - x0) * abs(end) + abs(start) * abs(y - y0) for end, start in ((y, x0), (y0, x)))
        largest = jnp.maximum(jnp.maximum(first, last), jnp.finfo(x.dtype).tiny)
        first, last = (first / largest) ** 2, (last / largest) ** 2
        w = jnp.where(first + last == 0, 0.5, last / jnp.where(first + last == 0, 1, first + last)).astype(x.dtype)
    return passed * (w * y + (1 - w) * y0) + other * (w * x0 + (1 - w) * x)


def _ends(x: Value) -> tuple[Any, Any, Any]:
    return x.at("value"), x.at("base"), tangent(x)


def _elementwise_product(operation: Operation) -> Any:
    first, second = operation.args
    return _times(_ends(first), _ends(second), _has_statistic(first, second))


def _quotient(operation: Operation) -> Any:
    """Share a quotient a / b as the product of a and 1 / b, whose difference is -Db / (b b0)."""
    top, bottom = operation.args
    b, b0, passed = _ends(bottom)
    return _times(_ends(top), (1 / b, 1 / b0, -passed / b / b0), _has_statistic(top, bottom))


def _has_statistic(a: Value, b: Value) -> bool:
    first, second = (isinstance(x, Signal) and bool(x.notes.get("statistic")) for x in (a, b))
    return first != second


def _larger(a: Value, b: Value, is_max: bool) -> Any:
    """Share max(a, b) = b + relu(a - b), or min(a, b) = b - relu(b - a), by the secant of the ReLU."""
    sign = 1 if is_max else -1
    d, d0 = sign * (a.at("value") - b.at("value")), sign * (a.at("base") - b.at("base"))
    over = d - d0
    relu = lambda x: jnp.maximum(x, 0)
    steady = (jnp.sign(d) + jnp.sign(d0) + 2) / 4  # ties share alike
    first = jnp.where(over == 0, steady, (relu(d) - relu(d0)) / jnp.where(over == 0, 1, over)).astype(d.dtype)
    return first * _signal(a) + (1 - first) * _signal(b)


def _clamped(operation: Operation) -> Any:
    low, x, high = operation.args
    value, base = (jnp.maximum(x.at(end), low.at(end)) for end in ("value", "base"))
    return _larger(given(value, base, _larger(x, low, True)), high, False)


def _comparison(operation: Operation, result: Signal) -> Any:
    a, b = operation.args
    dtype = jnp.zeros(()).dtype
    dtype = next((x.value.dtype for x in operation.signals if is_float(x.value)), dtype)
    over = (_numbers(a, "value", dtype) - _numbers(b, "value", dtype)) - (
        _numbers(a, "base", dtype) - _numbers(b, "base", dtype)
    )
    up = result.value.astype(dtype) - result.base.astype(dtype)
    return jnp.where(over == 0, 0, up / jnp.where(over == 0, 1, over)) * (_signal(a) - _signal(b))


def _selection(state: Following, operation: Operation) -> Any:
    """Share a selection: u + p (v - u), with p the choice as a number 0 or 1; likewise of more cases."""
    which, *cases = operation.args
    total: Any = 0
    dtype = operation.results[0].dtype if is_float(operation.results[0]) else jnp.zeros(()).dtype
    chosen = lambda end, k: (jnp.asarray(which.at(end)).astype(jnp.int32) == k).astype(dtype)
    for k, case in enumerate(cases):
        share = (chosen("value", k) + chosen("base", k)) / 2
        total = total + jnp.where(share == 0, 0, share * _signal(case))
    if isinstance(which, Signal) and len(cases) > 2:
        state.has_no_rule_for(operation, ", for the choice among more than two")
    elif isinstance(which, Signal) and which.tangent is not None:
        ends = [[_numbers(case, end, dtype) for end in ("value", "base")] for case in cases]
        (u, u0), (v, v0) = ends
        step = (v - u) / 2 + (v0 - u0) / 2
        changes = chosen("value", 1) != chosen("base", 1)
        total = total + jnp.where(changes, step, 0) * which.tangent.astype(dtype)
    return total


# ---------------------------------------------------------------- operations that are not elementwise


def _linear_or_ordinary(state: Following, operation: Operation) -> list:
    """Pass signals through a linear operation; through another by the derivative, and note that it has no rule."""
    floats = [signal for signal in operation.signals if is_float(signal.value)]
    traced = tuple(isinstance(x, Signal) and is_float(x.value) for x in operation.args)
    if not _any(floats):
        return [None] * len(operation.results)
    if operation.is_linear or _linear_in(operation, traced):
        if len(floats) == len(operation.signals):
            return operation.on_signals()
        # Which elements are taken depends on the points as well: half of either choice.
        if not _any([signal for signal in operation.signals if not is_float(signal.value)]):
            state.has_no_rule_for(operation, ", where indices depend on the points")
        zeros = {i: tangent(operation.args[i]) for i, flag in enumerate(traced) if flag}
        ends = [operation.with_operands(end, zeros) for end in ("value", "base")]
        return [(a + b) / 2 for a, b in zip(*ends, strict=True)]
    if operation.name in _PRODUCTS:
        return [product(operation)]
    if operation.name in _SMOOTH and len(floats) == len(operation.signals):
        return extremes.along_path(operation, floats, QUADRATURE)
    state.has_no_rule_for(operation)
    return ordinary(state, operation)


def _linear_in(operation, traced) -> bool:
    return first_nonlinear(operation.primitive, operation.params, traced) is None


def _moved_choice(operation):
    """Move the signals of booleans or integers, which are floats."""
    known = [signal.tangent for signal in operation.signals if signal.tangent is not None]
    if not known:
        return None
    dtype = known[0].dtype
    return operation.bind([jnp.zeros_like(x.value, dtype) + _signal(x) for x in operation.args])[0]


def _with_signal(signal: Signal, compute: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: None if signal.tangent is None else compute()


def _extreme(kind: Callable) -> Callable:
    """Make the rule of an operation with one operand and one result."""

    def rule(state, operation, results):
        (signal,), (result,) = operation.signals, results
        if operation.name in ("reduce_max", "reduce_min"):
            result.notes["extreme"] = True
        result.passes([signal], _with_signal(signal, lambda: kind(operation, signal, result)))

    return rule


def _sort(state, operation, results):
    keys, axis = operation.args[0], operation.params["dimension"]
    if operation.params["num_keys"] > 1 or not isinstance(keys, Signal) or not is_float(keys.value):
        for result in results:
            result.passes(operation.signals, lambda: state.has_no_rule_for(operation))
        return
    order = extremes.order_of(axis)
    results[0].passes([keys], _with_signal(keys, lambda: extremes.of_sorted(keys, order, axis)))
    for payload, result in zip(operation.args[1:], results[1:], strict=True):
        result.passes(
            [x for x in (payload, keys) if isinstance(x, Signal)], lambda p=payload: _carried(state, operation, p)
        )


def _carried(state, operation, payload):
    """Half of either order: the credit for the change of the order goes nowhere."""
    state.has_no_rule_for(operation, ", for what is sorted by other values")
    if not isinstance(payload, Signal) or payload.tangent is None:
        return None
    keys, axis = operation.args[0], operation.params["dimension"]
    index = [extremes.order_of(axis)(keys.at(end)) for end in ("value", "base")]
    return sum(jnp.take_along_axis(payload.tangent, each, axis) for each in index) / 2


def _top_k(state, operation, results):
    (keys,), axis = operation.signals, operation.params.get("axis", -1)
    axis = axis % keys.value.ndim
    order = extremes.order_of(axis, descending=True)
    count = operation.params["k"]
    first = lambda array: lax.slice_in_dim(array, 0, count, axis=axis)
    results[0].passes([keys], _with_signal(keys, lambda: first(extremes.of_sorted(keys, order, axis))))
    results[1].passes([], lambda: state.has_no_rule_for(operation, ", for the indices"))


def _stop_gradient(state, operation, results):
    """Keep a constant a constant, but for the shift of a softmax.

    The maximum that is subtracted for the sake of range cancels in the end, so that nothing is lost by stopping its
    gradient; of differences that are not small, it takes its part.
    """
    (signal,), (result,) = operation.signals, results
    is_shift = operation.shifts_exponent and any(link.notes.get("extreme") for link in signal.chain())
    if is_shift or not is_float(signal.value):
        result.passes([signal], lambda: signal.tangent)
    else:
        result.passes([], lambda: state.has_no_rule_for(operation))


def _moved_extreme(state, operation, results):
    """Pass on an array that is moved, and remember whether it is a maximum."""
    (result,) = results
    if any(link.notes.get("extreme") for link in operation.signals[0].chain()):
        result.notes["extreme"] = True
    if all(is_float(signal.value) for signal in operation.signals):
        result.passes(operation.signals, lambda: operation.on_signals()[0] if _any(operation.signals) else None)
    else:
        result.passes(operation.signals, lambda: _moved_choice(operation))


def _any_or_all(state, operation, results):
    """Share "any" and "all" as the maximum and the minimum that they are."""
    (signal,), (result,) = operation.signals, results
    axes = tuple(operation.params["axes"])

    def compute():
        if signal.tangent is None:
            return None
        ends = [array.astype(signal.tangent.dtype) for array in (signal.value, signal.base, result.value, result.base)]
        return (extremes.of_axes(*ends, axes) * signal.tangent).sum(axes)

    result.passes([signal], compute)


def _complex_size(operation, signal, result):
    """Share |z|: the difference of |z|^2 over the sum of the sizes, which is linear in that of z."""
    z, z0, size = signal.value, signal.base, result.value + result.base
    return (jnp.conj(z + z0) * signal.tangent).real / jnp.where(size == 0, 1, size)


_TABLE: dict[str, Callable] = {
    "reduce_max": _extreme(lambda operation, x, y: extremes.reduced(operation, x)),
    "reduce_min": _extreme(lambda operation, x, y: extremes.reduced(operation, x)),
    "reduce_window_max": _extreme(lambda operation, x, y: extremes.of_windows(operation, x, y.value, y.base, True)),
    "reduce_window_min": _extreme(lambda operation, x, y: extremes.of_windows(operation, x, y.value, y.base, False)),
    "cummax": _extreme(lambda operation, x, y: extremes.cumulative(operation, x, y.value, y.base, True)),
    "cummin": _extreme(lambda operation, x, y: extremes.cumulative(operation, x, y.value, y.base, False)),
    "reduce_prod": _extreme(lambda operation, x, y: extremes.of_product(operation, x)[0]),
    "cumprod": _extreme(lambda operation, x, y: extremes.of_product(operation, x)[0]),
    "reduce_or": _any_or_all,
    "reduce_and": _any_or_all,
    "abs": _extreme(_complex_size),
    "sort": _sort,
    "top_k": _top_k,
    "stop_gradient": _stop_gradient,
    "broadcast_in_dim": _moved_extreme,
    "reshape": _moved_extreme,
}
