"""Differentiating a jaxpr once: the forward and the backward program of a `jit`, `scan`, `cond` or `while` body.

The forward program runs the body on a tape and then traces the reverse pass over that tape as a program of its own.
The residuals are what that second program closes over: the values that a rule's backward formula mentions. Those that
are arguments or results of the body already are not returned a second time.

Four masks say which values take part:

                needs_grad                               active
    arguments ----------------->  forward program  -----------------> results
                                         |
                                         | residuals
                                         v
    cotangents <----------------  backward program  <---------------- cotangents
                  ct_out                                  ct_in

    needs_grad   arguments whose cotangent is wanted
    active       results that depend on such an argument
    ct_in        results that a cotangent comes in for: active ones; nobody may have used the others
    ct_out       arguments that a cotangent goes out to: of those in needs_grad, the ones that ct_in reaches

In a loop the carry is argument and result, so that two fixpoints have to be found: `needs_grad` grows by the carry that
comes to depend on it from iteration to iteration, and the carry in `ct_in` by that which gets a cotangent on the way
back.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from diffprog._jax_internals import (
    Tracer,
    closed,
    eval_jaxpr,
    has_gradient,
    jaxpr_as_fun,
    trace_to_closed_jaxpr,
    trace_to_jaxpr,
    typeof,
    weakref_lru_cache,
)
from diffprog._jax_internals.jaxprs import in_types
from diffprog._tracer.backward import Taped
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.vjp import run_taped
from diffprog._util.lists import expand, select

Mask = tuple[bool, ...]


class Staged(NamedTuple):
    """A differentiated jaxpr.

    Attributes:
      forward: closed jaxpr, arguments -> results + saved residuals.
      backward: closed jaxpr, residuals + cotangents of the active results -> cotangents of the arguments in
        `needs_grad`.
      active: which results depend on an argument in `needs_grad`.
      residuals: where each residual is found: its position in arguments + results + saved residuals + constants.
      constants: residuals that are the same in every call.
    """

    forward: Any
    backward: Any
    active: Mask
    residuals: tuple[int, ...]
    constants: tuple

    def collect(self, args: Sequence, outputs: Sequence) -> list:
        """Find the residuals of one call in its arguments and in all that `forward` returned."""
        pool = [*args, *outputs, *self.constants]
        return [pool[i] for i in self.residuals]


@weakref_lru_cache
def stage(jaxpr, needs_grad: Mask, reusable: Mask | None = None) -> Staged:
    """Differentiate a closed jaxpr.

    Args:
      jaxpr: closed jaxpr, arguments -> results.
      needs_grad: the arguments to differentiate with respect to.
      reusable: for arguments + results, whether one may serve as a residual as it is (default: all may). In a
        `scan` the carried values may not: the backward pass needs them of every iteration.
    """
    programs: list = []

    def forward(*args):
        results, taped = run_taped(jaxpr_as_fun(jaxpr), args, needs_grad)
        backward, residuals, _ = trace_reverse(results, taped, taped.active)
        saved, constants, where = sort_residuals(residuals, [*args, *results], reusable)
        programs.append(Staged(None, backward, taped.active, where, constants))
        return [*results, *saved]

    program = trace_to_closed_jaxpr(forward, in_types(jaxpr), "forward")
    return programs[0]._replace(forward=program)


def sort_residuals(
    residuals: Sequence, known: Sequence, reusable: Sequence[bool] | None = None
) -> tuple[list, tuple, tuple[int, ...]]:
    """Sort the residuals of a reverse pass.

    Returns:
      Those that have to be saved, being none of the `known` values; those that are the same in every call; and where
      each residual is found: its position in known + saved + constants.
    """
    position = {id(x): i for i, x in reversed(list(enumerate(known))) if reusable is None or reusable[i]}
    rest = {id(x): x for x in residuals if id(x) not in position}.values()
    saved, constants = ([x for x in rest if isinstance(x, Tracer) == kind] for kind in (True, False))
    position |= {id(x): len(known) + i for i, x in enumerate([*saved, *constants])}
    return saved, tuple(constants), tuple(position[id(x)] for x in residuals)


def trace_reverse(results: Sequence, taped: Taped, ct_in: Sequence[bool], whole: bool = True) -> tuple[Any, list, Mask]:
    """Trace the reverse pass over a tape.

    Args:
      results: of the program on the tape.
      taped: the tape.
      ct_in: the results that a cotangent comes in for.
      whole: whether all inputs get a cotangent, of zeros where nothing comes, if all active results are in `ct_in`.

    Returns:
      A closed jaxpr, residuals + cotangents of the results in `ct_in` -> cotangents of inputs; the residuals; and
      which inputs get a cotangent.
    """
    avals = [typeof(x).to_ct_aval() for x in select(results, ct_in)]
    whole = whole and len(avals) == sum(taped.active)
    ct_out: list[bool] = []

    def reverse(*cotangents):
        sent = taped.pull(expand(cotangents, ct_in))
        ct_out[:] = [whole or g is not None for g in sent]
        return fill_zeros(sent, [node.avals[0] for node in taped.inputs], ct_out)

    program, residuals = trace_to_jaxpr(reverse, avals, "backward")
    return program, residuals, tuple(ct_out)


# ---------------------------------------------------------------- which results are active


@weakref_lru_cache
def activity(jaxpr, needs_grad: Mask) -> Mask:
    """Find out which results of a closed jaxpr are active."""
    active: list[bool] = []

    def forward(*args):
        results, taped = run_taped(jaxpr_as_fun(jaxpr), args, needs_grad)
        active.extend(taped.active)
        return results

    trace_to_closed_jaxpr(forward, in_types(jaxpr), "liveness")
    return tuple(active)


def needs_grad_fixpoint(jaxpr, needs_grad: Mask, num_consts: int, num_carry: int) -> Mask:
    """Extend `needs_grad` by the carried values of a loop that come to depend on it.

    Args:
      jaxpr: one iteration, constants + carry + others -> carry + others.
      needs_grad: the constants, carry and others to differentiate with respect to.
      num_consts: number of constants.
      num_carry: number of carried values.
    """
    end = num_consts + num_carry
    differentiable = [has_gradient(aval) for aval in jaxpr.out_avals[:num_carry]]
    while True:
        carry = needs_grad[num_consts:end]
        may_depend = zip(carry, differentiable, reaches(jaxpr, needs_grad), strict=False)
        if all(already or not (floats and reached) for already, floats, reached in may_depend):
            return needs_grad  # without running the body, which takes longer
        after = tuple(a or b for a, b in zip(carry, activity(jaxpr, needs_grad), strict=False))
        if after == carry:
            return needs_grad
        needs_grad = (*needs_grad[:num_consts], *after, *needs_grad[end:])


# ---------------------------------------------------------------- cotangents of some results only
#
# Zeros in the place of the cotangents that are missing would cost time, and zero times the infinite slope of a square
# root is not a number. So the backward program is staged anew without them; the forward pass, and what it saves, stays
# as it is.


class PartialBackward(NamedTuple):
    """A backward program for the cotangents of some results.

    Attributes:
      program: closed jaxpr, its residuals + cotangents of the results in `ct_in` -> cotangents of the arguments in
        `ct_out`.
      ct_in: the results that it takes cotangents of.
      ct_out: the arguments that it has cotangents for.
      residuals: where each of its residuals is found: its position in the residuals of `Staged` + constants.
      constants: residuals that are the same in every call.
    """

    program: Any
    ct_in: Mask
    ct_out: Mask
    residuals: tuple[int, ...]
    constants: tuple

    def collect(self, residuals: Sequence) -> list:
        """Find the residuals of this program among those of `Staged`."""
        pool = [*residuals, *self.constants]
        return [pool[i] for i in self.residuals]

    def run(self, residuals: Sequence, cotangents: Sequence) -> list:
        """Run the program.

        Args:
          residuals: those of `Staged`, None for those that it does not need.
          cotangents: of the results in `ct_in`.

        Returns:
          One cotangent per argument, None for zero.
        """
        sent = eval_jaxpr(self.program.jaxpr, self.program.consts, *self.collect(residuals), *cotangents)
        return expand(sent, self.ct_out)


def backward_for(staged: Staged, jaxpr, needs_grad: Mask, ct_in: Mask) -> PartialBackward:
    """Find the backward program for some results of a closed jaxpr.

    It may be that of all results, if what is in `ct_in` needs other residuals than the forward pass saves.
    """
    partial = None if ct_in == staged.active else _stage_partial(jaxpr, needs_grad, ct_in)
    if partial is not None:
        return partial
    return PartialBackward(staged.backward, staged.active, needs_grad, tuple(range(len(staged.residuals))), ())


@weakref_lru_cache
def _stage_partial(jaxpr, needs_grad: Mask, ct_in: Mask) -> PartialBackward | None:
    """Trace the forward pass again, to see which of its residuals are needed; None if others are.

    The forward pass that runs is that of `stage`: both find the same residuals in the same order.
    """
    partial: PartialBackward | None = None

    def forward(*args):
        nonlocal partial
        results, taped = run_taped(jaxpr_as_fun(jaxpr), args, needs_grad)
        _, everything, _ = trace_reverse(results, taped, taped.active)
        program, residuals, reached = trace_reverse(results, taped, ct_in)
        position = {id(x): i for i, x in enumerate(everything)}
        constants = [x for x in residuals if id(x) not in position]
        position |= {id(x): len(everything) + i for i, x in enumerate(constants)}
        if not any(isinstance(x, Tracer) for x in constants):
            where = tuple(position[id(x)] for x in residuals)
            partial = PartialBackward(program, ct_in, _of_all(reached, needs_grad), where, tuple(constants))
        return results

    trace_to_closed_jaxpr(forward, in_types(jaxpr), "forward")
    return partial


def ct_in_fixpoint(
    staged: Staged, jaxpr, needs_grad: Mask, num_consts: int, num_carry: int, ct_in: Mask
) -> tuple[PartialBackward, list[bool]]:
    """Find the backward program of one iteration of a loop.

    Args:
      staged: the iteration, differentiated.
      jaxpr: the iteration, constants + carry + others -> carry + others.
      needs_grad: the constants, carry and others that it was differentiated with respect to.
      num_consts: number of constants.
      num_carry: number of carried values.
      ct_in: the carry and the other results that have a cotangent after the last iteration.

    Returns:
      The backward program, and which carried values have a cotangent after some iteration.
    """
    carry, others = list(ct_in[:num_carry]), ct_in[num_carry:]
    extended = lambda ct_out: [a or b for a, b in zip(carry, ct_out[num_consts:], strict=False)]
    no_residuals = [False] * len(staged.residuals)
    while True:
        in_step = [there and active for there, active in zip([*carry, *others], staged.active, strict=True)]
        reached = reaches(staged.backward, (*no_residuals, *select(in_step, staged.active)))
        after = extended(_of_all(reached, needs_grad))
        if after == carry:
            partial = backward_for(staged, jaxpr, needs_grad, tuple(in_step))
            after = extended(partial.ct_out)
            if after == carry:
                return partial, carry
        carry = after


def _of_all(flags: Sequence[bool], needs_grad: Mask) -> Mask:
    """Turn flags of the arguments in `needs_grad` into flags of all arguments."""
    return tuple(map(bool, expand(flags, needs_grad)))


@weakref_lru_cache
def reaches(jaxpr, sources: Mask) -> Mask:
    """Find out which outputs of a closed jaxpr may depend on these inputs."""
    body = jaxpr.jaxpr
    dependent = set(select(body.invars, sources))
    depends = lambda v: not hasattr(v, "val") and v in dependent  # literals have a value
    for eqn in body.eqns:
        flags = tuple(map(depends, eqn.invars))
        if any(flags):
            dependent.update(select(eqn.outvars, _passes(eqn, flags)))
    return tuple(map(depends, body.outvars))


def _passes(eqn, flags: Mask):
    if eqn.primitive.name == "cond" and not flags[0]:
        return map(any, zip(*(reaches(branch, flags[1:]) for branch in eqn.params["branches"]), strict=True))
    if eqn.primitive.name in ("jit", "call_apart", "remat2"):
        return reaches(closed(eqn.params["jaxpr"]), flags)
    return [True] * len(eqn.outvars)
