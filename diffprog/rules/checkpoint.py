"""`jax.checkpoint`: the backward pass runs the function again, from its arguments and what its policy keeps."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jax import typeof

from diffprog.jax_internals import closed, jaxpr_as_fun, trace_to_jaxpr, weakref_lru_cache
from diffprog.jax_internals.checkpoints import bind_checkpoint, cut, drop_unused_inputs, keep_everything, keep_nothing
from diffprog.rules.calls import call, fill_zeros, spread
from diffprog.rules.table import rule
from diffprog.tracer.staging import stage


class _StagedCheckpoint(NamedTuple):
    """A differentiated jaxpr whose only residuals are arguments and values that the policy keeps.

    Attributes:
      forward: closed jaxpr, its constants + arguments -> results + values to keep.
      kept: the positions of the kept values in what `forward` returns.
      backward: closed jaxpr, what is `used` of its constants + kept values + the inputs of `forward` + cotangents of
        the live results -> cotangents of the wanted arguments.
      constants: those of `forward` and those of `backward`, the same in every call.
      live: which results depend on a wanted argument.
    """

    forward: object
    kept: list[int]
    backward: object
    constants: tuple[list, list]
    used: tuple[bool, ...]
    live: tuple[bool, ...]


@weakref_lru_cache
def _stage(jaxpr, wanted: tuple[bool, ...], policy: Callable) -> _StagedCheckpoint:
    """Cut the forward pass in two at what the policy keeps, and put the second part before the backward pass.

    The policy is asked about the operations of the forward pass. What only the formulas of the backward pass compute,
    as the cosine in the derivative of a sine, is not kept by any policy.
    """
    staged = stage(jaxpr, wanted)
    num_args, num_results = len(jaxpr.in_avals), len(staged.live)
    computed = [i for i in staged.residuals if i >= num_args]  # the other residuals are arguments

    def results_and_residuals(*args):
        outputs = jaxpr_as_fun(staged.forward)(*args)
        pool = [*args, *outputs, *staged.constants]
        return [*outputs[:num_results], *(pool[i] for i in computed)]

    program, constants = trace_to_jaxpr(results_and_residuals, jaxpr.in_avals, "checkpoint")
    forward, kept, recompute = cut(program, num_results, policy)
    num_inputs = len(recompute.in_avals)

    def recompute_and_pull(*operands):
        inputs, given = operands[:num_inputs], operands[num_inputs:]
        args = inputs[num_inputs - num_args :]
        found = iter(jaxpr_as_fun(recompute)(*inputs))
        residuals = [args[i] if i < num_args else next(found) for i in staged.residuals]
        return jaxpr_as_fun(staged.backward)(*residuals, *given)

    avals = [*recompute.in_avals, *staged.backward.in_avals[len(staged.residuals) :]]
    program, more_constants = trace_to_jaxpr(recompute_and_pull, avals, "rematerialized")
    backward, used = drop_unused_inputs(program)
    return _StagedCheckpoint(forward, kept, backward, (constants, more_constants), used, staged.live)


def checkpoint(jaxpr, wanted, args, *, policy, prevent_cse):
    """The rule of a checkpointed function, given as a closed jaxpr. Both passes are checkpointed functions again."""
    if policy is keep_everything:  # as if the function were not checkpointed
        return call(jaxpr, wanted, args)
    policy = policy or keep_nothing
    staged = _stage(jaxpr, wanted, policy)
    constants, more_constants = staged.constants
    apart = bool(np.any(prevent_cse))
    outputs = bind_checkpoint(
        staged.forward, [*constants, *args], prevent_cse=apart, policy=policy, differentiated=False
    )
    results, kept = outputs[: len(staged.live)], [outputs[i] for i in staged.kept]
    avals = [typeof(x) for x in results]
    inputs = [*more_constants, *kept, *constants, *args]
    used, given_used = staged.used[: len(inputs)], staged.used[len(inputs) :]
    residuals = _those(inputs, used)
    if isinstance(prevent_cse, tuple):  # one flag per argument
        first = len(inputs) - len(args)
        flags = (*_those((apart,) * first + prevent_cse, used), *_those([apart] * len(given_used), given_used))
    else:
        flags = prevent_cse

    def pull(cotangents):
        given = _those(fill_zeros(cotangents, avals, staged.live), given_used)
        found = bind_checkpoint(
            staged.backward, [*residuals, *given], prevent_cse=flags, policy=policy, differentiated=True
        )
        return spread(found, wanted)

    return results, staged.live, pull


def _those(values, chosen) -> list:
    return [x for x, choose in zip(values, chosen, strict=True) if choose]


@rule("remat2")
def _remat2(primitive, wanted, args, params):
    return checkpoint(closed(params["jaxpr"]), wanted, args, policy=params["policy"], prevent_cse=params["prevent_cse"])
