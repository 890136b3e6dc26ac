"""`jax.checkpoint`: the backward pass runs the function again, from its arguments and what its policy keeps."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jax import typeof

from diffprog._jax_internals import closed, jaxpr_as_fun, trace_to_jaxpr, weakref_lru_cache
from diffprog._jax_internals.checkpoints import bind_checkpoint, cut, drop_unused_inputs, keep_everything, keep_nothing
from diffprog._rules.calls import call
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.parts import Part, part_of
from diffprog._tracer.rules import rule
from diffprog._tracer.staging import Staged, stage
from diffprog._util.lists import expand, select


class _Cut(NamedTuple):
    """A differentiated jaxpr, its forward pass cut in two at what the policy keeps.

    Attributes:
      staged: the differentiated jaxpr.
      forward: closed jaxpr, constants + arguments -> results + values to keep.
      kept: the positions of the kept values in what `forward` returns.
      recompute: closed jaxpr, kept values + constants + arguments -> residuals that are not arguments.
      constants: the same in every call.
    """

    staged: Staged
    forward: object
    kept: list[int]
    recompute: object
    constants: list


class _Backward(NamedTuple):
    """The backward pass of a checkpointed function.

    Attributes:
      part: for which results it is.
      program: closed jaxpr, what is `used` of its constants + kept values + constants of the cut + arguments
        + cotangents of the given results -> cotangents of the wanted arguments that are reached.
      constants: its constants.
    """

    part: Part
    program: object
    constants: list
    used: tuple[bool, ...]


@weakref_lru_cache
def _cut(jaxpr, wanted: tuple[bool, ...], policy: Callable) -> _Cut:
    """Differentiate a closed jaxpr and cut its forward pass in two.

    The policy is asked about the operations of the forward pass. What only the formulas of the backward pass compute,
    as the cosine in the derivative of a sine, is not kept by any policy.
    """
    staged = stage(jaxpr, wanted)
    num_args, num_results = len(jaxpr.in_avals), len(staged.live)
    computed = [i for i in staged.residuals if i >= num_args]

    def results_and_residuals(*args):
        outputs = jaxpr_as_fun(staged.forward)(*args)
        pool = [*args, *outputs, *staged.constants]
        return [*outputs[:num_results], *(pool[i] for i in computed)]

    program, constants = trace_to_jaxpr(results_and_residuals, jaxpr.in_avals, "checkpoint")
    return _Cut(staged, *cut(program, num_results, policy), constants)


@weakref_lru_cache
def _stage_backward(jaxpr, wanted: tuple[bool, ...], policy: Callable, given: tuple[bool, ...]) -> _Backward:
    """The second part of the forward pass, and then the backward pass."""
    staged, _, _, recompute, _ = _cut(jaxpr, wanted, policy)
    part = part_of(staged, jaxpr, wanted, given)
    num_args, num_inputs = len(jaxpr.in_avals), len(recompute.in_avals)

    def recompute_and_pull(*operands):
        inputs, cotangents = operands[:num_inputs], operands[num_inputs:]
        args = inputs[num_inputs - num_args :]
        found = iter(jaxpr_as_fun(recompute)(*inputs))
        residuals = [args[i] if i < num_args else next(found) for i in staged.residuals]
        return jaxpr_as_fun(part.backward)(*part.collect(residuals), *cotangents)

    avals = [*recompute.in_avals, *part.backward.in_avals[len(part.residuals) :]]
    program, constants = trace_to_jaxpr(recompute_and_pull, avals, "rematerialized")
    program, used = drop_unused_inputs(program)
    return _Backward(part, program, constants, used)


def checkpoint(jaxpr, wanted, args, *, policy, prevent_cse):
    """The rule of a checkpointed function, given as a closed jaxpr. Both passes are checkpointed functions again."""
    if policy is keep_everything:  # as if the function were not checkpointed
        return call(jaxpr, wanted, args)
    policy = policy or keep_nothing
    staged, forward, kept, _, constants = _cut(jaxpr, wanted, policy)
    apart = bool(np.any(prevent_cse))
    outputs = bind_checkpoint(forward, [*constants, *args], prevent_cse=apart, policy=policy, differentiated=False)
    results = outputs[: len(staged.live)]
    avals = [typeof(x) for x in results]
    flags = prevent_cse if isinstance(prevent_cse, tuple) else (apart,) * len(args)
    inputs = [*(outputs[i] for i in kept), *constants, *args]
    flags = [apart] * (len(inputs) - len(args)) + [*flags]
    # Of what the whole backward pass needs, a part of it may need less.
    _, _, whole_constants, used = _stage_backward(jaxpr, wanted, policy, staged.live)
    inputs = [x if use else None for x, use in zip(inputs, used[len(whole_constants) :], strict=False)]

    def pull(cotangents):
        given = tuple(g is not None for g in cotangents)
        part, program, more_constants, used = _stage_backward(jaxpr, wanted, policy, given)
        given = fill_zeros(cotangents, avals, part.given)
        operands = select([*more_constants, *inputs, *given], used)
        all_flags = select([*[apart] * len(more_constants), *flags, *[apart] * len(given)], used)
        found = bind_checkpoint(
            program,
            operands,
            prevent_cse=tuple(all_flags) if isinstance(prevent_cse, tuple) else apart,
            policy=policy,
            differentiated=True,
        )
        return expand(found, expand(part.reached, wanted))

    return results, staged.live, pull


@rule("remat2")
def _remat2(primitive, wanted, args, params):
    return checkpoint(closed(params["jaxpr"]), wanted, args, policy=params["policy"], prevent_cse=params["prevent_cse"])
