"""`scan` and `cond`.

The bodies are differentiated once (`diffprog._tracer.staging`); what is left here is which values are carried,
stacked or chosen in the two passes.
"""

from collections import Counter
from typing import Any, NamedTuple

from jax import typeof

from diffprog._jax_internals import (
    bind_cond,
    bind_scan,
    instantiate,
    jaxpr_as_fun,
    scan_sizes,
    trace_to_closed_jaxpr,
    weakref_lru_cache,
    zeros,
)
from diffprog._jax_internals.devices import add_where_they_lie
from diffprog._jax_internals.jaxprs import in_types
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.rules import rule
from diffprog._tracer.staging import Mask, Staged, backward_for, ct_in_fixpoint, needs_grad_fixpoint, stage
from diffprog._util.lists import expand, select, split_list

# ---------------------------------------------------------------- scan


class _StagedScan(NamedTuple):
    """A differentiated `scan`.

    Attributes:
      step: the differentiated body.
      needs_grad: which of constants, carry and xs need a cotangent in some step.
      active: which of carry and ys depend, in some step, on an argument in `needs_grad`.
    """

    step: Staged
    needs_grad: Mask
    active: Mask


@weakref_lru_cache
def _stage_scan(jaxpr, needs_grad, num_consts, num_carry) -> _StagedScan:
    num_args, num_results = len(jaxpr.in_avals), len(jaxpr.out_avals)
    needs_grad = needs_grad_fixpoint(jaxpr, needs_grad, num_consts, num_carry)
    # A carried value differs from step to step, so that it is no residual unless it is stacked.
    per_step = (False,) * num_carry
    args_reusable = (True,) * num_consts + per_step + (True,) * (num_args - num_consts - num_carry)
    step = stage(jaxpr, needs_grad, args_reusable + per_step + (True,) * (num_results - num_carry))
    return _StagedScan(step, needs_grad, (*needs_grad[num_consts:][:num_carry], *step.active[num_carry:]))


class _ScanBackward(NamedTuple):
    """The backward pass of a differentiated `scan`.

    Attributes:
      step: closed jaxpr of one backward step, itself the body of a scan:
        constants: the steady residuals;
        carry: cotangents of the constants in `ct_out`, summed so far, and of the carry after the step in `ct_in`;
        xs: cotangents of the ys in `ct_in`, the stacked residuals
        -> carry: the sums, cotangents of the carry before the step; ys: cotangents of the xs in `ct_out`.
      steady: the residuals that are the same in every step, by their position among those of the body.
      stacked: the residuals of each step.
      ct_in: which of carry and ys it takes cotangents of.
      ct_out: which of constants, carry and xs it has cotangents for.
    """

    step: Any
    steady: list[int]
    stacked: list[int]
    ct_in: list[bool]
    ct_out: list[bool]


@weakref_lru_cache
def _stage_scan_backward(jaxpr, needs_grad, num_consts, num_carry, ct_in) -> _ScanBackward:
    """Stage the backward pass for the carry and the ys in `ct_in`, which have a cotangent after the last step."""
    staged, needs_grad, _ = _stage_scan(jaxpr, needs_grad, num_consts, num_carry)
    partial, carry = ct_in_fixpoint(staged, jaxpr, needs_grad, num_consts, num_carry, ct_in)
    sums, _, xs = split_list(partial.ct_out, [num_consts, num_carry])
    ys = partial.ct_in[num_carry:]
    first_constant = len(jaxpr.in_avals) + len(staged.forward.out_avals)
    is_steady = [i < num_consts or i >= first_constant for i in staged.residuals]
    used = sorted({i for i in partial.residuals if i < len(is_steady)})
    steady, stacked = [i for i in used if is_steady[i]], [i for i in used if not is_steady[i]]

    def step(*operands):
        sizes = [len(steady), sum(sums), sum(carry), sum(ys)]
        steady_residuals, totals, to_carry, to_ys, stacked_residuals = split_list(operands, sizes)
        residuals = dict(zip([*steady, *stacked], [*steady_residuals, *stacked_residuals], strict=True))
        residuals = [residuals.get(i) for i in range(len(is_steady))]
        cotangents = select([*expand(to_carry, carry), *expand(to_ys, ys)], partial.ct_in)
        to_consts, to_carry, to_xs = split_list(partial.run(residuals, cotangents), [num_consts, num_carry])
        return [
            *map(add_where_they_lie, totals, select(to_consts, sums)),
            *fill_zeros(to_carry, jaxpr.in_avals[num_consts:][:num_carry], carry),
            *select(to_xs, xs),
        ]

    residual_avals = in_types(staged.backward)
    cotangent_avals = lambda avals, mask: [aval.to_ct_aval() for aval in select(avals, mask)]
    avals = [
        *(residual_avals[i] for i in steady),
        *cotangent_avals(jaxpr.in_avals[: num_consts + num_carry], [*sums, *carry]),
        *cotangent_avals(jaxpr.out_avals[num_carry:], ys),
        *(residual_avals[i] for i in stacked),
    ]
    program = trace_to_closed_jaxpr(step, avals, "scan_backward")
    return _ScanBackward(program, steady, stacked, [*carry, *ys], [*sums, *carry, *xs])


@rule("scan")
def _scan(primitive, needs_grad, args, params):
    """Scan in the other direction on the way back, and sum the cotangents of constants on the way."""
    jaxpr, (num_consts, num_carry) = params["jaxpr"], scan_sizes(params)
    step, _, active = _stage_scan(jaxpr, needs_grad, num_consts, num_carry)
    options = {name: params[name] for name in ("length", "unroll")}
    reverse = params["reverse"]
    consts, carry, xs = split_list(args, [num_consts, num_carry])
    outputs = bind_scan(step.forward, consts, carry, xs, reverse=reverse, **options)
    residuals = step.collect(args, outputs)
    results = outputs[: len(step.active)]
    avals, const_avals = [typeof(x) for x in results], [typeof(x) for x in consts]

    def pull(cotangents):
        ct_in = tuple(g is not None for g in cotangents)
        back = _stage_scan_backward(jaxpr, needs_grad, num_consts, num_carry, ct_in)
        zeros = map(instantiate, select(const_avals, back.ct_out[:num_consts]))
        to_carry, to_ys = split_list(fill_zeros(cotangents, avals, back.ct_in), [sum(back.ct_in[:num_carry])])
        steady, stacked = ([residuals[i] for i in indices] for indices in (back.steady, back.stacked))
        sent = bind_scan(back.step, steady, [*zeros, *to_carry], [*to_ys, *stacked], reverse=not reverse, **options)
        return [g if want else None for g, want in zip(expand(sent, back.ct_out), needs_grad, strict=True)]

    return results, active, pull


# ---------------------------------------------------------------- cond


class _StagedCond(NamedTuple):
    """Differentiated branches.

    Attributes:
      branches: the branches, differentiated one by one.
      forward: closed jaxprs, operands -> results + slots. A slot holds a residual of whichever branch ran; branches
        share the slots of equal type.
      slots: per branch the slots of what it saves.
      used: the positions, in operands + results + slots, of what any backward branch needs.
      active: which results depend on an operand in `needs_grad` in some branch.
    """

    branches: list[Staged]
    forward: tuple
    slots: list[list[int]]
    used: list[int]
    active: Mask


@weakref_lru_cache
def _stage_cond(first, others, needs_grad) -> _StagedCond:
    branches = [stage(jaxpr, needs_grad) for jaxpr in (first, *others)]
    num_args, num_results = len(first.in_avals), len(first.out_avals)
    active = tuple(map(any, zip(*(branch.active for branch in branches), strict=True)))
    saved_avals = [branch.forward.out_avals[num_results:] for branch in branches]
    slot_avals = _slot_types(saved_avals)
    slots = [_assign(avals, slot_avals) for avals in saved_avals]
    used = sorted(
        {num_args + num_results + i for branch_slots in slots for i in branch_slots}
        | {i for branch in branches for i in branch.residuals if i < num_args + num_results}
    )

    def make_forward(branch, slots):
        def forward(*args):
            results, saved = split_list(jaxpr_as_fun(branch.forward)(*args), [num_results])
            filled = dict(zip(slots, saved, strict=True))
            return [*results, *(filled[i] if i in filled else zeros(aval) for i, aval in enumerate(slot_avals))]

        return trace_to_closed_jaxpr(forward, first.in_avals, "cond_forward")

    return _StagedCond(branches, tuple(map(make_forward, branches, slots)), slots, used, active)


class _CondBackward(NamedTuple):
    """The backward pass of differentiated branches.

    Attributes:
      branches: closed jaxprs, values at `used` + cotangents of the results in `ct_in` -> cotangents of the operands in
        `ct_out`.
      ct_in: which results it takes cotangents of.
      ct_out: which operands get a cotangent in some branch.
    """

    branches: tuple
    ct_in: Mask
    ct_out: Mask


@weakref_lru_cache
def _stage_cond_backward(first, others, needs_grad, ct_in) -> _CondBackward:
    """Stage the backward pass for the results in `ct_in`."""
    staged = _stage_cond(first, others, needs_grad)
    num_known = len(first.in_avals) + len(first.out_avals)
    both = lambda active: tuple(a and b for a, b in zip(ct_in, active, strict=True))
    pairs = zip(staged.branches, (first, *others), strict=True)
    partials = [backward_for(branch, jaxpr, needs_grad, both(branch.active)) for branch, jaxpr in pairs]
    ct_in = tuple(map(any, zip(ct_in, *(partial.ct_in for partial in partials), strict=True)))
    ct_out = tuple(map(any, zip(*(partial.ct_out for partial in partials), strict=True)))
    position = {i: k for k, i in enumerate(staged.used)}

    def make_backward(branch, slots, partial):
        def backward(*operands):
            values, cotangents = split_list(operands, [len(staged.used)])
            known = {i: values[k] for i, k in position.items() if i < num_known}
            saved = {num_known + k: values[position[num_known + slot]] for k, slot in enumerate(slots)}
            constants = {num_known + len(slots) + k: x for k, x in enumerate(branch.constants)}
            pool = known | saved | constants
            residuals = [pool[i] for i in branch.residuals]
            sent = partial.run(residuals, select(expand(cotangents, ct_in), partial.ct_in))
            return fill_zeros(sent, first.in_avals, ct_out)

        slot_avals = staged.forward[0].out_avals[len(first.out_avals) :]
        avals = [*first.in_avals, *first.out_avals, *slot_avals]
        cotangent_avals = [aval.to_ct_aval() for aval in select(first.out_avals, ct_in)]
        return trace_to_closed_jaxpr(backward, [*(avals[i] for i in staged.used), *cotangent_avals], "cond_backward")

    return _CondBackward(tuple(map(make_backward, staged.branches, staged.slots, partials)), ct_in, ct_out)


def _slot_types(saved_avals) -> list:
    """Find the fewest slots with which each branch can store its residuals."""
    needed: Counter = Counter()
    for avals in saved_avals:
        needed |= Counter(avals)
    return list(needed.elements())


def _assign(avals, slot_avals) -> list[int]:
    """Assign each value of a branch a slot of its type."""
    free = list(enumerate(slot_avals))
    slots = []
    for aval in avals:
        entry = next(entry for entry in free if entry[1] == aval)
        free.remove(entry)
        slots.append(entry[0])
    return slots


@rule("cond")
def _cond(primitive, needs_grad, args, params):
    """Branch on one index forward and backward; only the branch that ran stores anything of its own."""
    index, *operands = args
    first, *others = params["branches"]
    others, needs_grad = tuple(others), needs_grad[1:]
    staged = _stage_cond(first, others, needs_grad)
    outputs = bind_cond(index, staged.forward, operands, params)
    results = outputs[: len(staged.active)]
    avals = [typeof(x) for x in results]
    pool = [*operands, *outputs]
    residuals = [pool[i] for i in staged.used]

    def pull(cotangents):
        back = _stage_cond_backward(first, others, needs_grad, tuple(g is not None for g in cotangents))
        sent = bind_cond(index, back.branches, [*residuals, *fill_zeros(cotangents, avals, back.ct_in)], params)
        return [None, *expand(sent, back.ct_out)]

    return results, staged.active, pull
