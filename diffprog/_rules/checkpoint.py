"""`jax.checkpoint`: the backward pass runs the function again, from its arguments and what its policy keeps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import typeof

from diffprog._jax_internals import closed, jaxpr_as_fun, trace_to_closed_jaxpr, trace_to_jaxpr, weakref_lru_cache
from diffprog._jax_internals.calls_apart import call_apart, can_be_apart
from diffprog._jax_internals.checkpoints import bind_checkpoint, cut, drop_unused_inputs, keep_everything, keep_nothing
from diffprog._rules.calls import call
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.rules import rule
from diffprog._tracer.staging import Mask, PartialBackward, Staged, backward_for, stage
from diffprog._util.lists import expand, select


class _Cut(NamedTuple):
    """A differentiated jaxpr, its forward pass cut in two at what the policy keeps.

    Attributes:
      staged: the differentiated jaxpr.
      forward: closed jaxpr, constants + arguments -> results + values to keep.
      saved: the positions of the kept values in what `forward` returns.
      recompute: closed jaxpr, kept values + constants + arguments -> residuals that are not arguments.
      constants: arrays that are the same in every call.
    """

    staged: Staged
    forward: Any
    saved: list[int]
    recompute: Any
    constants: list


class _Backward(NamedTuple):
    """The backward pass of a checkpointed function: the second part of the forward pass, and then the backward program.

    Attributes:
      partial: the backward program.
      program: closed jaxpr, those in `used` of constants + inputs of `_Cut.recompute` + cotangents of the results in
        `partial.ct_in` -> cotangents of the arguments in `partial.ct_out`.
      constants: arrays that are the same in every call.
      used: which of these inputs the program takes.
    """

    partial: PartialBackward
    program: Any
    constants: list
    used: Mask


@weakref_lru_cache
def _cut(jaxpr, needs_grad: Mask, policy: Callable) -> _Cut:
    """Differentiate a closed jaxpr and cut its forward pass in two.

    The policy is asked about the operations of the forward pass. What only the formulas of the backward pass compute,
    as the cosine in the derivative of a sine, is not kept by any policy.
    """
    staged = stage(jaxpr, needs_grad)
    num_args, num_results = len(jaxpr.in_avals), len(staged.active)
    computed = [i for i in staged.residuals if i >= num_args]

    def results_and_residuals(*args):
        outputs = jaxpr_as_fun(staged.forward)(*args)
        pool = [*args, *outputs, *staged.constants]
        return [*outputs[:num_results], *(pool[i] for i in computed)]

    program, constants = trace_to_jaxpr(results_and_residuals, jaxpr.in_avals, "checkpoint")
    forward, saved, recompute = cut(program, num_results, policy)
    return _Cut(staged, forward, saved, recompute, constants)


@weakref_lru_cache
def _stage_backward(jaxpr, needs_grad: Mask, policy: Callable, ct_in: Mask, apart: bool) -> _Backward:
    staged, _, _, recompute, _ = _cut(jaxpr, needs_grad, policy)
    partial = backward_for(staged, jaxpr, needs_grad, ct_in)
    num_args, num_inputs = len(jaxpr.in_avals), len(recompute.in_avals)

    def recompute_and_pull(*operands):
        inputs, cotangents = operands[:num_inputs], operands[num_inputs:]
        args = inputs[num_inputs - num_args :]
        with jax.named_scope("rematted_computation"):  # as in the programs of jax.grad
            computed = iter(jaxpr_as_fun(recompute)(*inputs))
        residuals = [args[i] if i < num_args else next(computed) for i in staged.residuals]
        return jaxpr_as_fun(partial.program)(*partial.collect(residuals), *cotangents)

    avals = [*recompute.in_avals, *partial.program.in_avals[len(partial.residuals) :]]
    program, constants = trace_to_jaxpr(recompute_and_pull, avals, "rematerialized")
    program, used = drop_unused_inputs(program)
    if apart and can_be_apart(program):
        body = program
        program = trace_to_closed_jaxpr(lambda *operands: call_apart(body, operands), body.in_avals, "rematerialized")
    return _Backward(partial, program, constants, used)


def checkpoint(jaxpr, needs_grad: Mask, args, *, policy: Callable | None, prevent_cse: bool | tuple[bool, ...]):
    """Differentiate a checkpointed function, given as a closed jaxpr: the rule for it.

    Both passes are checkpointed functions again.
    """
    if policy is keep_everything:  # as if the function were not checkpointed
        return call(jaxpr, needs_grad, args)
    policy = policy or keep_nothing
    staged, forward, saved, _, constants = _cut(jaxpr, needs_grad, policy)
    apart = bool(np.any(prevent_cse))
    outputs = bind_checkpoint(forward, [*constants, *args], prevent_cse=apart, policy=policy, differentiated=False)
    results = outputs[: len(staged.active)]
    avals = [typeof(x) for x in results]
    arg_flags = prevent_cse if isinstance(prevent_cse, tuple) else (apart,) * len(args)
    inputs = [*(outputs[i] for i in saved), *constants, *args]
    input_flags = [apart] * (len(inputs) - len(args)) + [*arg_flags]
    # Of what the whole backward pass needs, that for fewer cotangents may need less.
    whole = _stage_backward(jaxpr, needs_grad, policy, staged.active, apart)
    inputs = [x if used else None for x, used in zip(inputs, whole.used[len(whole.constants) :], strict=False)]

    def pull(cotangents):
        ct_in = tuple(g is not None for g in cotangents)
        partial, program, constants, used = _stage_backward(jaxpr, needs_grad, policy, ct_in, apart)
        cotangents = fill_zeros(cotangents, avals, partial.ct_in)
        operands = select([*constants, *inputs, *cotangents], used)
        flags = select([*[apart] * len(constants), *input_flags, *[apart] * len(cotangents)], used)
        sent = bind_checkpoint(
            program,
            operands,
            prevent_cse=tuple(flags) if isinstance(prevent_cse, tuple) else apart,
            policy=policy,
            differentiated=True,
        )
        return expand(sent, partial.ct_out)

    return results, staged.active, pull


@rule("remat2")
def _remat2(primitive, needs_grad, args, params):
    options = {name: params[name] for name in ("policy", "prevent_cse")}
    return checkpoint(closed(params["jaxpr"]), needs_grad, args, **options)
