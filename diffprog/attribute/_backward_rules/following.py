"""Follow a program operation by operation, with signals beside its values."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

import diffprog._jax_internals
from diffprog._jax_internals.jaxprs import jaxprs_in, trace_to_jaxpr
from diffprog._jax_internals.sources import frames, has_user_lines, is_installed, program_file
from diffprog._tracer.linearity import RUN_PROGRAMS, is_linear_program
from diffprog.attribute._backward_rules import loops
from diffprog.attribute._backward_rules.operations import ELEMENTWISE, Operation, remember_statistics
from diffprog.attribute._backward_rules.signals import Constant, Signal, Value, given, nearest_common, resolve
from diffprog.graph._recording.nodes import Frame

CALLS = RUN_PROGRAMS - {"scan", "while", "cond", "custom_linear_solve", "run_state", "shard_map"} | {
    "custom_jvp_call",
    "custom_vjp_call",
    "closed_call",
    "core_call",
    "pjit",
}
_PACKAGE = str(Path(diffprog._jax_internals.__file__).parents[1])
LOOPS = {"scan": loops.scan, "while": loops.while_loop, "cond": loops.cond}


class Method(Protocol):
    """What an operation does to signals: the table that is consulted before the derivatives.

    Attributes:
      is_paired: whether the values at a baseline are carried along.
    """

    is_paired: bool

    def elementwise(self, state: "Following", operation: Operation, result: Signal) -> None:
        """Say how the signal of an elementwise operation's result is made."""

    def other(self, state: "Following", operation: Operation, results: Sequence[Signal]) -> None:
        """Say how the signals of another operation's results are made."""


@dataclass
class Following:
    """A program that is being followed.

    Attributes:
      method: the rules.
      unruled: the operations that these did not cover, in order.
      layers: how many layers (contractions with weights) were met so far.
      total_layers: how many there are, if that is known; else None.
    """

    method: Method
    unruled: dict[str, None] = field(default_factory=dict)
    layers: int = 0
    total_layers: int | None = None
    scopes: tuple[str, ...] = ()
    frame: Frame | None = None
    label: str = ""

    def has_no_rule_for(self, operation: Operation, why: str = "") -> None:
        """Note an operation that the rules did not cover."""
        self.unruled[f"{operation}{why}"] = None

    def run(self, jaxpr: Any, args: Sequence[Value]) -> list[Value]:
        """Follow a closed jaxpr."""
        own = [Constant(x, _uniform(x)) for x in jaxpr.consts]
        values: dict[Any, Value] = dict(zip((*jaxpr.jaxpr.constvars, *jaxpr.jaxpr.invars), (*own, *args), strict=True))
        read = lambda v: Constant(v.val, _uniform(v.val)) if hasattr(v, "val") else values[v]
        lines = has_user_lines(jaxpr)
        for equation in jaxpr.jaxpr.eqns:
            operands = list(map(read, equation.invars))
            with self._at(equation, lines), equation.ctx.manager:
                shifts = equation.primitive.name == "stop_gradient" and _shifts_exponent(equation, jaxpr.jaxpr)
                results = self.step(equation.primitive, equation.params, operands, shifts)
            values.update(zip(equation.outvars, results, strict=True))
        return list(map(read, jaxpr.jaxpr.outvars))

    @contextlib.contextmanager
    def _at(self, equation, lines: bool) -> Iterator[None]:
        before = self.scopes, self.frame
        stack = equation.source_info.name_stack.stack
        self.scopes = (*self.scopes, *(entry.name for entry in stack if type(entry).__name__ == "Scope"))
        if lines:
            self.frame = _user_frame(equation) or self.frame
        try:
            yield
        finally:
            self.scopes, self.frame = before

    def step(self, primitive: Any, params: dict, args: list[Value], shifts: bool = False) -> list[Value]:
        """Follow one operation; `shifts` as `Operation.shifts_exponent`."""
        name = primitive.name
        if name == "name":
            return args
        if name == "select_n" and (same := _same(args[1:])) is not None:
            return [same]
        if any(isinstance(x, Signal) for x in args):
            if name in CALLS:
                bodies = [body for body in jaxprs_in(params) if len(body.in_avals) == len(args)]
                if len(bodies) == 1:
                    if name == "custom_vjp_call" and _is_own_linear(bodies[0], args):
                        return self._signals(self._operation(primitive, params, args), is_linear=True)
                    return self._call(bodies[0], params, args)
            if name in LOOPS:
                return LOOPS[name](self, self._operation(primitive, params, args))
            operation = self._operation(primitive, params, args)
            operation.shifts_exponent = shifts
            return self._signals(operation)
        operation = self._operation(primitive, params, args)
        results = operation.bind([x.value for x in args])
        uniform = _uniform_result(operation, args)
        return [Constant(x, uniform if len(results) == 1 else None) for x in results]

    def _call(self, body, params: dict, args: list[Value]) -> list[Value]:
        before = self.label
        self.label = str(params.get("name", before)) if not has_user_lines(body) else ""
        try:
            return self.run(body, args)
        finally:
            self.label = before

    def _operation(self, primitive, params, args) -> Operation:
        return Operation(primitive, params, args, self.scopes, self.frame, self.label or primitive.name)

    def _signals(self, operation: Operation, is_linear: bool | None = None) -> list[Value]:
        elementwise = operation.name in ELEMENTWISE and not any(_is_complex(x.value) for x in operation.args)
        if elementwise:
            shape = np.broadcast_shapes(*(jnp.shape(x.value) for x in operation.args))
            operation.args = [_spread(x, shape) for x in operation.args]
        operation.results = operation.with_operands("value", {})
        if is_linear is not None:
            operation.is_linear = is_linear
        bases = operation.with_operands("base", {}) if self.method.is_paired else [None] * len(operation.results)
        results = [Signal(x, base) for x, base in zip(operation.results, bases, strict=True)]
        if elementwise:
            (result,) = results
            result.operation = operation
            result.parent = nearest_common(operation.signals)
            remember_statistics(operation, result)
            self.method.elementwise(self, operation, result)
        else:
            if operation.name == "stop_gradient":
                results[0].notes["stopped"] = operation.signals[0]
            if len(results) == 1:
                remember_statistics(operation, results[0])
            self.method.other(self, operation, results)
        return list(results)


def _shifts_exponent(equation, body) -> bool:
    """Whether a result is only added and subtracted, and what it is subtracted from is exponentiated."""
    results, exponentiated = {equation.outvars[0]}, False
    for user in body.eqns:
        used = [x for x in user.invars if not hasattr(x, "val") and x in results]
        name = user.primitive.name
        if name in ("broadcast_in_dim", "reshape") and used:
            results.update(user.outvars)
        elif name == "sub" and used == [user.invars[1]]:
            (difference,) = user.outvars
            exponentiated |= any(e.primitive.name == "exp" and difference in e.invars for e in body.eqns)
        elif used and name not in ("add", "add_any"):
            return False
    return exponentiated and not any(not hasattr(x, "val") and x in results for x in body.outvars)


def _same(cases: Sequence[Value]) -> Signal | None:
    """Find the value that all cases of a selection are; JAX stops the gradient of those that a branch does not use."""
    found = [x.notes.get("stopped", x) for x in cases if isinstance(x, Signal)]
    return found[0] if len(found) == len(cases) and all(x is found[0] for x in found) else None


def _is_complex(x) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.complexfloating)) if hasattr(x, "dtype") else isinstance(x, complex)


def _spread(x: Value, shape) -> Value:
    """Give a value that depends on the points the shape of those that it is used with."""
    if isinstance(x, Constant) or x.value.shape == shape:
        return x
    spread = lambda array: None if array is None else jnp.broadcast_to(array, shape)
    wide = Signal(spread(x.value), spread(x.base), [x], lambda: spread(x.tangent))
    wide.notes["extreme"] = x.notes.get("extreme")
    wide.notes["statistic"] = x.notes.get("statistic") or x.notes.get("reduced")
    if (kept := x.notes.get("exponential")) is not None:
        wide.notes["exponential"] = kept.then(spread)
    return wide


def _is_own_linear(body, args) -> bool:
    """Whether a function with a derivative of its own is linear, and of diffprog: then it can be trusted."""
    file = program_file(body)
    if file is None or not file.startswith(_PACKAGE):
        return False
    traced = tuple(isinstance(x, Signal) for x in args)
    return all(jnp.issubdtype(x.dtype, jnp.inexact) for x in body.in_avals) and is_linear_program(body, traced)


def _user_frame(equation) -> Frame | None:
    found = [frame for frame in frames(equation) if not frame.hidden]
    if not found:
        return None
    own = next((frame for frame in found if not is_installed(frame.file)), found[0])
    return Frame(own.file, own.line, own.function)


def _uniform(x) -> Any:
    """Find the number that all elements of an array are; None if they differ, or are not known yet."""
    if isinstance(x, jax.core.Tracer) or not isinstance(x, (np.ndarray, np.generic, jax.Array, int, float, bool)):
        return None
    if not jax.dtypes.issubdtype(jnp.result_type(x), np.number) and jnp.result_type(x) != jnp.bool_:
        return None
    array = np.asarray(x)
    if array.size == 0 or array.size > 2**16 or not (array == array.flat[0]).all():
        return None
    return array.flat[0]


def _uniform_result(operation: Operation, args) -> Any:
    uniform = [x.uniform for x in args]
    if not uniform or any(x is None for x in uniform):
        return None
    if operation.name in ("broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose"):
        return uniform[0]
    if operation.name not in ELEMENTWISE:
        return None
    with jax.ensure_compile_time_eval():
        return np.asarray(operation.bind(list(map(jnp.asarray, uniform)))[0])[()]


def follow(
    method: Method,
    function: Callable[[Sequence], Any],
    points: Sequence,
    baseline: Sequence | None,
    tangents: Sequence,
    shares: Sequence,
    prepare: Callable[[Signal, Any], None] | None = None,
    total_layers: int | None = None,
) -> tuple[Any, Any, Following]:
    """Follow a function of the points.

    Args:
      method: the rules.
      function: points -> scores, one array.
      points: arrays of floats.
      baseline: arrays like them, where the method has one.
      tangents: arrays like them: their signals.
      shares: arrays like them, of which the signals are linear functions.
      prepare: given each point's value and its share, remembers what the method needs of them.
      total_layers: how many layers there are, if that is known.

    Returns:
      The scores, their signals, and what was found on the way.
    """
    jaxpr, reads = trace_to_jaxpr(lambda *leaves: [function(list(leaves))], [jax.typeof(x) for x in points], "followed")
    state = Following(method, total_layers=total_layers)
    starts = baseline if method.is_paired and baseline is not None else [None] * len(points)
    signals = []
    for x, b, tangent, share in zip(points, starts, tangents, shares, strict=True):
        signal = given(x, b, tangent)
        if prepare is not None:
            prepare(signal, share)
        signals.append(signal)
    (result,) = state.run(jaxpr, [*(Constant(x, _uniform(x)) for x in reads), *signals])
    if isinstance(result, Constant):
        return result.value, jnp.zeros_like(result.value), state
    resolve([result])
    return result.value, jnp.zeros_like(result.value) if result.tangent is None else result.tangent, state
