"""Loops and branches of a program that is followed: their bodies are followed, with signals in the carry."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from diffprog._jax_internals import closed, scan_sizes
from diffprog._jax_internals.jaxprs import jaxprs_in
from diffprog._util.lists import split_list
from diffprog.attribute._backward_rules.operations import Operation, tangent
from diffprog.attribute._backward_rules.signals import Constant, Signal, Value, given, is_float, resolve

if TYPE_CHECKING:
    from diffprog.attribute._backward_rules.following import Following


class Slots:
    """How values and signals are put into lists of arrays, which a loop can carry."""

    def __init__(self, state: "Following", operation: Operation, flags: Sequence[bool]):
        """Remember the form.

        Args:
          state: the program.
          operation: the loop.
          flags: which of the values depend on the points.
        """
        self.state, self.operation, self.flags = state, operation, list(flags)
        self.is_paired = state.method.is_paired

    def pack(self, values: Sequence[Value]) -> list:
        """List, per value: itself, its base, and its signal if it is a float."""
        resolve([x for x in values if isinstance(x, Signal)])
        arrays = []
        for x, flag in zip(values, self.flags, strict=True):
            value = jnp.asarray(x.value)
            arrays.append(value)
            if not flag:
                continue
            if not is_float(value) and isinstance(x, Signal) and x.tangent is not None:
                self.state.has_no_rule_for(self.operation, ", for what is no float")
            if self.is_paired:
                arrays.append(jnp.asarray(x.at("base"), value.dtype))
            if is_float(value):
                found = x.tangent if isinstance(x, Signal) else None
                arrays.append(jnp.zeros_like(value) if found is None else found)
        return arrays

    def unpack(self, arrays: Sequence) -> list[Value]:
        """Undo `pack`."""
        left = iter(arrays)
        values: list[Value] = []
        for flag in self.flags:
            value = next(left)
            if not flag:
                values.append(Constant(value))
                continue
            base = next(left) if self.is_paired else None
            values.append(given(value, base, next(left) if is_float(value) else None))
        return values


def depending(jaxpr, flags: Sequence[bool]) -> list[bool]:
    """Find which results of a closed jaxpr depend on the arguments that are flagged."""
    body = jaxpr.jaxpr
    found = {v for v, flag in zip(body.invars, flags, strict=True) if flag}
    depends = lambda v: not hasattr(v, "val") and v in found
    for equation in body.eqns:
        on = list(map(depends, equation.invars))
        if not any(on):
            continue
        bodies = [inner for inner in jaxprs_in(equation.params) if len(inner.in_avals) == len(on)]
        if equation.primitive.name == "scan":
            inner = closed(equation.params["jaxpr"])
            results = _through_loop(inner, on, *scan_sizes(equation.params))[1]
        elif len(bodies) == 1 and equation.primitive.name not in ("while", "cond"):
            results = depending(bodies[0], on)
        else:
            results = [True] * len(equation.outvars)
        found.update(v for v, flag in zip(equation.outvars, results, strict=True) if flag)
    return list(map(depends, body.outvars))


def _through_loop(jaxpr, flags, num_consts: int, num_carry: int) -> tuple[list[bool], list[bool]]:
    """Follow the carry until no more of it comes to depend on the points: flags of the arguments, and the results."""
    consts, carry, rest = split_list(flags, [num_consts, num_carry])
    while True:
        results = depending(jaxpr, [*consts, *carry, *rest])
        after = [a or b for a, b in zip(carry, results, strict=False)]
        if after == carry:
            return [*consts, *carry, *rest], [*carry, *results[num_carry:]]
        carry = after


def _flags(operation: Operation) -> list[bool]:
    return [isinstance(x, Signal) for x in operation.args]


def scan(state: "Following", operation: Operation) -> list[Value]:
    """Follow a scan by a scan."""
    params = operation.params
    num_consts, num_carry = scan_sizes(params)
    body = closed(params["jaxpr"])
    flags, result_flags = _through_loop(body, _flags(operation), num_consts, num_carry)
    slots = [Slots(state, operation, part) for part in split_list(flags, [num_consts, num_carry])]
    parts = split_list(operation.args, [num_consts, num_carry])
    consts, carry, xs = (slot.pack(part) for slot, part in zip(slots, parts, strict=True))
    ys_slots = Slots(state, operation, result_flags[num_carry:])
    before = state.layers

    def one(carry, xs):
        state.layers = before  # JAX may trace it more than once
        values = [x for slot, arrays in zip(slots, (consts, carry, xs), strict=True) for x in slot.unpack(arrays)]
        results = state.run(body, values)
        return slots[1].pack(results[:num_carry]), ys_slots.pack(results[num_carry:])

    carry, ys = lax.scan(one, carry, xs, params["length"], params["reverse"], params["unroll"])
    return [*slots[1].unpack(carry), *ys_slots.unpack(ys)]


def while_loop(state: "Following", operation: Operation) -> list[Value]:
    """Follow a while loop by one, which runs until both the values and their baselines are done."""
    params = operation.params
    num_test, num_body = params["cond_nconsts"], params["body_nconsts"]
    test, body = closed(params["cond_jaxpr"]), closed(params["body_jaxpr"])
    test_flags, body_flags, carry_flags = split_list(_flags(operation), [num_test, num_body])
    flags, _ = _through_loop(body, [*body_flags, *carry_flags], num_body, len(carry_flags))
    is_paired = state.method.is_paired
    slots = Slots(state, operation, flags[num_body:])
    test_values, body_values, start = split_list(operation.args, [num_test, num_body])
    resolve([x for x in body_values if isinstance(x, Signal)])
    may_differ = is_paired and depending(test, [*test_flags, *slots.flags])[0]
    if may_differ:
        state.has_no_rule_for(operation, ", whose number of iterations depends on the points")
    before = state.layers

    def goes_on(end, values):
        arrays = [x.at(end) for x in (*test_values, *values)]
        return jax.extend.core.jaxpr_as_fun(test)(*arrays)[0]

    def one(arrays):
        state.layers = before
        values = slots.unpack(arrays)
        results = state.run(body, [*body_values, *values])
        after = slots.pack(results)
        ends = {"value": goes_on("value", values)}
        if may_differ:
            ends["base"] = goes_on("base", values)
        elif ends["value"].ndim == 0:
            return after
        return slots.pack([_go_on(ends, old, x) for old, x in zip(values, slots.unpack(after), strict=True)])

    def until(arrays):
        values = slots.unpack(arrays)
        going = goes_on("value", values)
        return jnp.any(going | goes_on("base", values) if may_differ else going)

    return slots.unpack(lax.while_loop(until, one, slots.pack(start)))


def _go_on(ends: dict[str, Any], old: Value, new: Value) -> Value:
    """Take a step at the ends, and in the rows, that are not done; credit for the difference in steps goes nowhere."""
    rank = jnp.ndim(new.value)
    wide = lambda going: going.reshape(going.shape + (1,) * (rank - going.ndim))
    now = wide(ends["value"])
    before = wide(ends.get("base", ends["value"]))
    value = jnp.where(now, new.value, old.value)
    if not isinstance(new, Signal):
        return Constant(value)
    base = None if new.base is None else jnp.where(before, new.base, old.at("base"))
    if new.tangent is None:
        return given(value, base, None)
    moving = (now.astype(new.tangent.dtype) + before.astype(new.tangent.dtype)) / 2
    return given(value, base, moving * new.tangent + (1 - moving) * tangent(old))


def cond(state: "Following", operation: Operation) -> list[Value]:
    """Follow the branch that is taken; where values and baselines take others, all of them."""
    index, *args = operation.args
    branches = [closed(branch) for branch in operation.params["branches"]]
    flags = [isinstance(x, Signal) for x in args]
    if isinstance(index, Signal) and state.method.is_paired:
        return _both_branches(state, operation, branches)
    out = [any(each) for each in zip(*(depending(branch, flags) for branch in branches), strict=True)]
    slots, results = Slots(state, operation, flags), Slots(state, operation, out)
    before = state.layers

    def follow(branch):
        def run(arrays):
            state.layers = before
            return results.pack(state.run(branch, slots.unpack(arrays)))

        return run

    return results.unpack(lax.switch(index.value, [follow(branch) for branch in branches], slots.pack(args)))


def _both_branches(state, operation, branches) -> list[Value]:
    """Follow all branches, and select among their results, element by element."""
    index, *args = operation.args
    outcomes = [state.run(branch, args) for branch in branches]
    return [state.step(lax.select_n_p, {}, [_selector(index, x), *x])[0] for x in zip(*outcomes, strict=True)]


def _selector(index: Signal, cases: Sequence[Value]) -> Signal:
    """Make the index of a branch an index of the cases of a selection."""
    count = len(cases)

    def of(array):
        clipped = jnp.clip(array, 0, count - 1).astype(jnp.int32) if array.dtype != jnp.bool_ else array
        return clipped.astype(jnp.bool_) if count == 2 else clipped

    return Signal(of(index.value), of(index.base), [index], lambda: index.tangent)
