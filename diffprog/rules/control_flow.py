"""`scan` and `cond`.

The bodies are differentiated once (`diffprog.tracer.staging`); what is left here is which values are carried,
stacked or chosen in the two passes.
"""

from collections import Counter
from typing import NamedTuple

from jax import lax, typeof

from diffprog.jax_internals import (
    bind_cond,
    bind_scan,
    instantiate,
    jaxpr_as_fun,
    scan_sizes,
    trace_to_closed_jaxpr,
    weakref_lru_cache,
)
from diffprog.rules.calls import fill_zeros, split, spread
from diffprog.rules.table import rule
from diffprog.tracer.staging import Staged, liveness, settle, stage

# ---------------------------------------------------------------- scan


class _StagedScan(NamedTuple):
    """A differentiated `scan`.

    Attributes:
      step: the differentiated body.
      wanted: which of constants, carry and xs need a cotangent, once the carry has settled.
      steady: which residuals are the same in every step, so that they are not stacked.
      backward: closed jaxpr of one backward step:
        (steady residuals), (cotangents of the wanted constants so far, cotangents of the wanted carry after the
        step), (cotangents of the live ys, other residuals)
        -> (cotangents of the constants, of the carry before the step), (cotangents of the wanted xs).
    """

    step: Staged
    wanted: tuple[bool, ...]
    steady: tuple[bool, ...]
    backward: object


@weakref_lru_cache
def _stage_scan(jaxpr, wanted, num_consts, num_carry) -> _StagedScan:
    num_args, num_results = len(jaxpr.in_avals), len(jaxpr.out_avals)
    wanted = settle(lambda w: liveness(jaxpr, w), wanted, num_consts, num_carry)
    # A carried value differs from step to step, so that it is no residual unless it is stacked.
    per_step = (False,) * num_carry
    args_reusable = (True,) * num_consts + per_step + (True,) * (num_args - num_consts - num_carry)
    step = stage(jaxpr, wanted, args_reusable + per_step + (True,) * (num_results - num_carry))
    first_constant = num_args + len(step.forward.out_avals)
    steady = tuple(i < num_consts or i >= first_constant for i in step.residuals)
    want_consts, want_carry, _ = split(wanted, num_consts, num_carry)
    num_want_consts, num_want_carry, num_live_ys = sum(want_consts), sum(want_carry), sum(step.live[num_carry:])
    live_carry = [alive for alive, want in zip(step.live[:num_carry], want_carry, strict=True) if want]

    def backward(*operands):
        fixed, sums, carried, given, stacked = split(
            operands, sum(steady), num_want_consts, num_want_carry, num_live_ys
        )
        fixed, stacked = iter(fixed), iter(stacked)
        residuals = [next(fixed) if constant else next(stacked) for constant in steady]
        carried = [g for g, alive in zip(carried, live_carry, strict=True) if alive]
        found = jaxpr_as_fun(step.backward)(*residuals, *carried, *given)
        to_consts, rest = split(found, num_want_consts)
        return [*map(lax.add, sums, to_consts), *rest]

    residual_avals, given_avals = split(step.backward.in_avals, len(steady))
    out_avals = step.backward.out_avals
    avals = [
        *(aval for aval, constant in zip(residual_avals, steady, strict=True) if constant),
        *out_avals[: num_want_consts + num_want_carry],
        *given_avals[sum(live_carry) :],
        *(aval for aval, constant in zip(residual_avals, steady, strict=True) if not constant),
    ]
    return _StagedScan(step, wanted, steady, trace_to_closed_jaxpr(backward, avals, "scan_backward"))


@rule("scan")
def _scan(primitive, wanted, args, params):
    """The backward pass is a scan in the other direction; cotangents of constants are summed on the way."""
    num_consts, num_carry = scan_sizes(params)
    step, settled, steady, backward = _stage_scan(params["jaxpr"], wanted, num_consts, num_carry)
    how = {name: params[name] for name in ("length", "unroll")}
    reverse = params["reverse"]
    consts, carry, xs = split(args, num_consts, num_carry)
    outputs = bind_scan(step.forward, consts, carry, xs, reverse=reverse, **how)
    residuals = step.collect(args, outputs)
    results = outputs[: len(step.live)]
    avals = [typeof(x) for x in results]
    # What is carried depends on the wanted arguments once the first step has mixed them.
    live = (*settled[num_consts : num_consts + num_carry], *step.live[num_carry:])
    sums = [typeof(x) for x, want in zip(consts, settled, strict=False) if want]

    def pull(cotangents):
        zeros = map(instantiate, sums)
        given = fill_zeros(cotangents, avals, live)
        carried, given = split(given, sum(live[:num_carry]))
        fixed = [r for r, constant in zip(residuals, steady, strict=True) if constant]
        stacked = [r for r, constant in zip(residuals, steady, strict=True) if not constant]
        found = bind_scan(backward, fixed, [*zeros, *carried], [*given, *stacked], reverse=not reverse, **how)
        return [g if want else None for g, want in zip(spread(found, settled), wanted, strict=True)]

    return results, live, pull


# ---------------------------------------------------------------- cond


class _StagedCond(NamedTuple):
    """Differentiated branches.

    Attributes:
      forward: closed jaxprs, operands -> results + slots. A slot holds a residual of whichever branch ran; branches
        share the slots of equal type.
      backward: closed jaxprs, values at `used` + cotangents of the live results -> cotangents of the wanted operands.
      used: the positions, in operands + results + slots, of what any backward branch needs.
      live: which results depend on a wanted operand in any branch.
    """

    forward: tuple
    backward: tuple
    used: tuple[int, ...]
    live: tuple[bool, ...]


@weakref_lru_cache
def _stage_cond(first, others, wanted) -> _StagedCond:
    branches = [stage(jaxpr, wanted) for jaxpr in (first, *others)]
    num_args, num_results = len(first.in_avals), len(first.out_avals)
    live = tuple(map(any, zip(*(branch.live for branch in branches), strict=True)))
    saved_avals = [branch.forward.out_avals[num_results:] for branch in branches]
    slots = _slot_types(saved_avals)
    places = [_assign(avals, slots) for avals in saved_avals]
    used = sorted(
        {num_args + num_results + i for place in places for i in place}
        | {i for branch in branches for i in branch.residuals if i < num_args + num_results}
    )
    position = {i: k for k, i in enumerate(used)}

    def make_forward(branch, place):
        def forward(*args):
            results, saved = split(jaxpr_as_fun(branch.forward)(*args), num_results)
            filled = dict(zip(place, saved, strict=True))
            return [*results, *(filled[i] if i in filled else _blank(aval) for i, aval in enumerate(slots))]

        return trace_to_closed_jaxpr(forward, first.in_avals, "cond_forward")

    def make_backward(branch, place):
        def residual(i, values):
            if i < num_args + num_results:
                return values[position[i]]
            k = i - num_args - num_results
            if k < len(place):
                return values[position[num_args + num_results + place[k]]]
            return branch.constants[k - len(place)]

        def backward(*operands):
            values, given = split(operands, len(used))
            mine = [g for g, alive in zip(spread(given, live), branch.live, strict=True) if alive]
            return jaxpr_as_fun(branch.backward)(*(residual(i, values) for i in branch.residuals), *mine)

        everything = [*first.in_avals, *first.out_avals, *slots]
        given_avals = [aval.to_tangent_aval() for aval, alive in zip(first.out_avals, live, strict=True) if alive]
        return trace_to_closed_jaxpr(backward, [*(everything[i] for i in used), *given_avals], "cond_backward")

    pairs = list(zip(branches, places, strict=True))
    return _StagedCond(
        tuple(make_forward(*pair) for pair in pairs), tuple(make_backward(*pair) for pair in pairs), tuple(used), live
    )


def _slot_types(saved_avals) -> list:
    """The fewest slots with which each branch can store its residuals."""
    most: Counter = Counter()
    for avals in saved_avals:
        most |= Counter(avals)
    return list(most.elements())


def _assign(avals, slots) -> list[int]:
    free = list(enumerate(slots))
    places = []
    for aval in avals:
        entry = next(entry for entry in free if entry[1] == aval)
        free.remove(entry)
        places.append(entry[0])
    return places


def _blank(aval):
    return lax.full(aval.shape, 0, aval.dtype)


@rule("cond")
def _cond(primitive, wanted, args, params):
    """Forward and backward branch on the same index; only the branch that ran stores anything of its own."""
    index, *operands = args
    first, *others = params["branches"]
    staged = _stage_cond(first, tuple(others), wanted[1:])
    outputs = bind_cond(index, staged.forward, operands, params)
    results = outputs[: len(staged.live)]
    avals = [typeof(x) for x in results]
    pool = [*operands, *outputs]
    residuals = [pool[i] for i in staged.used]

    def pull(cotangents):
        given = fill_zeros(cotangents, avals, staged.live)
        found = bind_cond(index, staged.backward, [*residuals, *given], params)
        return [None, *spread(found, wanted[1:])]

    return results, staged.live, pull
