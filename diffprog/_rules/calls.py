"""Primitives that call a function: `jit` and other wrappers around a jaxpr."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jax import memory, typeof

from diffprog._jax_internals import (
    Tracer,
    as_array,
    asks_for_layout,
    bind_jit,
    closed,
    eval_jaxpr,
    jaxpr_as_fun,
    single_operation,
    without_forwarded,
)
from diffprog._jax_internals.calls_apart import call_apart
from diffprog._jax_internals.jaxprs import SingleOperation
from diffprog._jax_internals.sources import has_user_lines, program_source
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.rules import of_functions, rule, rules
from diffprog._tracer.staging import backward_for, stage
from diffprog._tracer.vjp import run_taped
from diffprog._util.lists import expand, select


def call_staged(jaxpr, needs_grad, args, run_forward: Callable, run_backward: Callable):
    """Differentiate a closed jaxpr and run it forward: the rule of a call.

    Args:
      jaxpr: closed jaxpr, arguments -> results.
      needs_grad: which arguments need a cotangent.
      args: the arguments.
      run_forward: (closed jaxpr, number of residuals that it returns after the results) -> its outputs.
      run_backward: (closed jaxpr, operands, which arguments its outputs are cotangents of) -> its outputs.

    Returns:
      The results, which of them are active, and the map from their cotangents to those of the arguments.
    """
    staged = stage(jaxpr, needs_grad)
    num_results = len(staged.active)
    outputs = run_forward(staged.forward, len(staged.forward.out_avals) - num_results)
    residuals, results = staged.collect(args, outputs), outputs[:num_results]
    avals = [typeof(x) for x in results]

    def pull(cotangents):
        partial = backward_for(staged, jaxpr, needs_grad, tuple(g is not None for g in cotangents))
        operands = [*partial.collect(residuals), *fill_zeros(cotangents, avals, partial.ct_in)]
        return expand(run_backward(partial.program, operands, partial.ct_out), partial.ct_out)

    return results, staged.active, pull


_SMALL = 6  # equations; a call of a smaller body costs more to stage and to make than the body itself


@rule("jit")
def _jit(primitive, needs_grad, args, params):
    """Make forward and backward one compiled call each, staged once per jaxpr; write a small body out instead."""
    jaxpr = params["jaxpr"]
    whole = of_functions.get(program_source(jaxpr))
    if whole is not None:
        outcome = whole(partial(primitive.bind, **params), needs_grad, args, jaxpr)
        if outcome is not None:
            return outcome
    if _size(jaxpr) <= _SMALL and not asks_for_layout(params):
        single = single_operation(jaxpr)
        has_rule = single is not None and single.primitive.name in rules
        if has_rule and _converts_constants_alone(single, needs_grad, args):
            return _operation(single, needs_grad, args)
        if any(isinstance(x, Tracer) for x in args):
            return _write_out(jaxpr, needs_grad, args)
    # A cotangent lies where its value does: the backward pass gives what the call took.
    turned = params | {"out_shardings": params["in_shardings"], "out_layouts": params["in_layouts"]}

    def run_forward(program, num_residuals):
        outputs = [*range(len(jaxpr.out_avals)), *[None] * num_residuals]
        return bind_jit(program, args, params, range(len(args)), outputs)

    def run_backward(program, operands, ct_out):
        arguments = [i for i, flag in enumerate(ct_out) if flag]
        computed, forwarded = without_forwarded(program)
        if asks_for_layout(params):  # an argument may not lie where the result does that it is
            computed, forwarded = program, [None] * len(arguments)
        arguments = select(arguments, [i is None for i in forwarded])
        runs = arguments or computed.effects  # it may print
        outputs = iter(bind_jit(computed, operands, turned, [None] * len(operands), arguments) if runs else ())
        return [next(outputs) if i is None else operands[i] for i in forwarded]

    return call_staged(jaxpr, needs_grad, args, run_forward, run_backward)


def _size(jaxpr) -> int:
    """Count the equations that compute something: a value that has a name is no more work."""
    return sum(equation.primitive.name != "name" for equation in jaxpr.eqns)


def _converts_constants_alone(single: SingleOperation, needs_grad, args) -> bool:
    """Whether the arguments to be converted, if any, are Python numbers without a gradient, as in `x * 2`."""
    converted = [i for (i, _), dtype in zip(single.operands, single.converted, strict=True) if dtype is not None]
    return all(not needs_grad[i] and isinstance(args[i], (int, float, complex)) for i in converted)


def _operation(single: SingleOperation, needs_grad, args):
    """Differentiate a body of one operation by the rule of that operation."""
    operands = [
        value if i is None else args[i] if dtype is None else np.asarray(args[i], typeof(args[i]).dtype).astype(dtype)
        for (i, value), dtype in zip(single.operands, single.converted, strict=True)
    ]
    operands_need_grad = tuple(i is not None and needs_grad[i] for i, _ in single.operands)
    result, backward = rules[single.primitive.name](single.primitive, operands_need_grad, operands, single.params)
    if backward is None:
        return [result], [False], None
    num_args = len(args)

    def pull(cotangents):
        sent = backward(cotangents[0])
        of_argument = {i: g for (i, _), g in zip(single.operands, sent, strict=True) if i is not None}
        return [of_argument.get(i) for i in range(num_args)]

    return [result], [True], pull


def _write_out(jaxpr, needs_grad, args):
    args = [as_array(x) if isinstance(x, np.ndarray) else x for x in args]  # what a custom rule in it takes for JAX's
    run = partial(
        eval_jaxpr, jaxpr.jaxpr, jaxpr.consts, propagate_source_info=has_user_lines(jaxpr)
    )  # JAX's own functions have the line of the call
    results, taped = run_taped(run, args, needs_grad)
    return results, taped.active, lambda cotangents: expand(taped.pull(cotangents), needs_grad)


@rule("eval_jaxpr", "custom_vmap_call", "composite", "remat_opt")
def _call(primitive, needs_grad, args, params):
    """Differentiate a call without options of its own: only its gradient is staged."""
    jaxpr = next(params[name] for name in ("jaxpr", "call_jaxpr", "call", "fwd_jaxpr") if name in params)
    return call(closed(jaxpr), needs_grad, args)


def call(jaxpr, needs_grad, args):
    """Differentiate a closed jaxpr and run it in place: the rule of a plain call."""
    run_forward = lambda program, _: jaxpr_as_fun(program)(*args)
    run_backward = lambda program, operands, _: eval_jaxpr(program.jaxpr, program.consts, *operands)
    return call_staged(jaxpr, needs_grad, args, run_forward, run_backward)


@rule("call_apart")
def _call_apart(primitive, needs_grad, args, params):
    """Run the backward pass of a call apart in one, too."""
    run_forward = lambda program, _: call_apart(program, args)
    run_backward = lambda program, operands, _: call_apart(program, operands)
    return call_staged(params["jaxpr"], needs_grad, args, run_forward, run_backward)


@rule("compute_on", "fused_call", "xla_metadata_call")
def _call_with_wishes(primitive, needs_grad, args, params):
    """Differentiate a call that the compiler treats apart from what is around it, as it then does the backward pass."""
    spaces = next((name for name in ("out_memory_spaces", "out_spaces") if name in params), None)
    tags = {} if params.get("ad_metadata", "same") == "same" else {"xla_metadata": params["ad_metadata"]}
    homes = [typeof(x).memory_space for x in args]

    def bind(jaxpr, operands, homes, changed):
        changed = {"jaxpr": jaxpr} | changed | ({spaces: tuple(homes)} if spaces else {})
        return primitive.bind(*operands, **(params | changed))

    def run_forward(program, num_residuals):
        return bind(program, args, [*params.get(spaces, ()), *[memory.Space.Device] * num_residuals], {})

    def run_backward(program, operands, ct_out):
        return bind(program, operands, select(homes, ct_out), tags)

    return call_staged(params["jaxpr"], needs_grad, args, run_forward, run_backward)
