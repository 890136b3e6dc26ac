"""Primitives that call a function: `jit` and other wrappers around a jaxpr."""

from collections.abc import Callable

import numpy as np
from jax import memory, typeof

from diffprog._jax_internals import (
    Tracer,
    asks_for_layout,
    bind_jit,
    closed,
    jaxpr_as_fun,
    single_operation,
    without_forwarded,
)
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.parts import part_of
from diffprog._tracer.rules import rule, rules
from diffprog._tracer.staging import Staged, stage
from diffprog._tracer.vjp import run_taped
from diffprog._util.lists import expand, select


def run_backward(run: Callable, jaxpr, wanted, staged: Staged, residuals, cotangents, avals) -> list:
    """The cotangents of a differentiated jaxpr's arguments, from those of its results, None for zero.

    Args:
      run: (closed jaxpr, operands, which arguments its outputs belong to) -> its outputs.
    """
    part = part_of(staged, jaxpr, wanted, tuple(g is not None for g in cotangents))
    operands = [*part.collect(residuals), *fill_zeros(cotangents, avals, part.given)]
    reached = expand(part.reached, wanted)
    return expand(run(part.backward, operands, reached), reached)


_SMALL = 6  # equations; a call of a smaller body costs more to stage and to make than the body itself


@rule("jit")
def _jit(primitive, wanted, args, params):
    """Forward and backward are one compiled call each, staged once per jaxpr; a small body is written out instead."""
    jaxpr = params["jaxpr"]
    if _size(jaxpr) <= _SMALL and not asks_for_layout(params):
        single = single_operation(jaxpr)
        if single is not None and single.primitive.name in rules and _converts_constants_alone(single, wanted, args):
            return _operation(single, wanted, args)
        if any(isinstance(x, Tracer) for x in args):
            return _write_out(jaxpr, wanted, args)
    staged: Staged = stage(jaxpr, wanted)
    count = len(staged.live)
    extra = len(staged.forward.out_avals) - count
    outputs = bind_jit(staged.forward, args, params, range(len(args)), [*range(count), *[None] * extra])
    residuals = staged.collect(args, outputs)
    results = outputs[:count]
    avals = [typeof(x) for x in results]
    # A cotangent lies where its value does: the backward pass gives what the call took.
    turned = params | {"out_shardings": params["in_shardings"], "out_layouts": params["in_layouts"]}

    def run(program, operands, reached):
        places = [i for i, there in enumerate(reached) if there]
        computed, forwarded = without_forwarded(program)
        if asks_for_layout(params):  # an argument may not lie where the result does that it is
            computed, forwarded = program, [None] * len(places)
        places = select(places, [i is None for i in forwarded])
        found = iter(bind_jit(computed, operands, turned, [None] * len(operands), places) if places else ())
        return [next(found) if i is None else operands[i] for i in forwarded]

    def pull(cotangents):
        return run_backward(run, jaxpr, wanted, staged, residuals, cotangents, avals)

    return results, staged.live, pull


def _size(jaxpr) -> int:
    """The number of its equations that compute something: a value that has a name is no more work."""
    return sum(equation.primitive.name != "name" for equation in jaxpr.eqns)


def _converts_constants_alone(single, wanted, args) -> bool:
    """Whether the arguments to be converted, if any, are Python numbers without a gradient, as in `x * 2`."""
    converted = [i for (i, _), dtype in zip(single.operands, single.converted, strict=True) if dtype is not None]
    return all(not wanted[i] and isinstance(args[i], (int, float, complex)) for i in converted)


def _operation(single, wanted, args):
    operands = [
        value if i is None else args[i] if dtype is None else np.asarray(args[i], typeof(args[i]).dtype).astype(dtype)
        for (i, value), dtype in zip(single.operands, single.converted, strict=True)
    ]
    wants = tuple(i is not None and wanted[i] for i, _ in single.operands)
    result, backward = rules[single.primitive.name](single.primitive, wants, operands, single.params)
    if backward is None:
        return [result], [False], None

    def pull(cotangents):
        sent = backward(cotangents[0])
        found = {i: g for (i, _), g in zip(single.operands, sent, strict=True) if i is not None}
        return [found.get(i) for i in range(len(args))]

    return [result], [True], pull


def _write_out(jaxpr, wanted, args):
    results, taped = run_taped(jaxpr_as_fun(jaxpr), args, wanted)
    return results, taped.active, lambda cotangents: expand(taped.pull(cotangents), wanted)


@rule("eval_jaxpr", "custom_vmap_call", "composite", "remat_opt")
def _call(primitive, wanted, args, params):
    """A call without options of its own: only its gradient is staged."""
    jaxpr = next(params[name] for name in ("jaxpr", "call_jaxpr", "call", "fwd_jaxpr") if name in params)
    return call(closed(jaxpr), wanted, args)


def call(jaxpr, wanted, args):
    """The rule of a closed jaxpr, run in place."""
    staged = stage(jaxpr, wanted)
    outputs = jaxpr_as_fun(staged.forward)(*args)
    count = len(staged.live)
    residuals, results = staged.collect(args, outputs), outputs[:count]
    avals = [typeof(x) for x in results]

    def pull(cotangents):
        run = lambda program, operands, _: jaxpr_as_fun(program)(*operands)
        return run_backward(run, jaxpr, wanted, staged, residuals, cotangents, avals)

    return results, staged.live, pull


@rule("compute_on", "fused_call", "xla_metadata_call")
def _call_apart(primitive, wanted, args, params):
    """A call that the compiler treats apart from what is around it; so it does with the backward pass."""
    staged = stage(params["jaxpr"], wanted)
    spaces = next((name for name in ("out_memory_spaces", "out_spaces") if name in params), None)
    tags = {} if params.get("ad_metadata", "same") == "same" else {"xla_metadata": params["ad_metadata"]}

    def bind(jaxpr, operands, homes, changed):
        changed = {"jaxpr": jaxpr} | changed | ({spaces: tuple(homes)} if spaces else {})
        return primitive.bind(*operands, **(params | changed))

    count = len(staged.live)
    extra = len(staged.forward.out_avals) - count
    outputs = bind(staged.forward, args, [*params.get(spaces, ()), *[memory.Space.Device] * extra], {})
    residuals, results = staged.collect(args, outputs), outputs[:count]
    avals = [typeof(x) for x in results]
    homes = [typeof(x).memory_space for x in args]

    def pull(cotangents):
        run = lambda program, operands, reached: bind(program, operands, select(homes, reached), tags)
        return run_backward(run, params["jaxpr"], wanted, staged, residuals, cotangents, avals)

    return results, staged.live, pull
