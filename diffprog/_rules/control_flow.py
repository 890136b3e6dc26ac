"""`scan` and `cond`.

The bodies are differentiated once (`diffprog._tracer.staging`); what is left here is which values are carried,
stacked or chosen in the two passes.
"""

from collections import Counter
from typing import NamedTuple

from jax import lax, typeof

from diffprog._jax_internals import (
    bind_cond,
    bind_scan,
    instantiate,
    jaxpr_as_fun,
    scan_sizes,
    trace_to_closed_jaxpr,
    weakref_lru_cache,
)
from diffprog._jax_internals.devices import zeros
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.parts import part_of, settle_part
from diffprog._tracer.rules import rule
from diffprog._tracer.staging import Staged, liveness, settle, stage
from diffprog._util.lists import expand, select, split_list

# ---------------------------------------------------------------- scan


class _StagedScan(NamedTuple):
    """A differentiated `scan`.

    Attributes:
      step: the differentiated body.
      wanted: which of constants, carry and xs need a cotangent, once the carry has settled.
      live: which of carry and ys depend on a wanted argument, once the first step has mixed them.
    """

    step: Staged
    wanted: tuple[bool, ...]
    live: tuple[bool, ...]


@weakref_lru_cache
def _stage_scan(jaxpr, wanted, num_consts, num_carry) -> _StagedScan:
    num_args, num_results = len(jaxpr.in_avals), len(jaxpr.out_avals)
    wanted = settle(lambda w: liveness(jaxpr, w), wanted, num_consts, num_carry)
    # A carried value differs from step to step, so that it is no residual unless it is stacked.
    per_step = (False,) * num_carry
    args_reusable = (True,) * num_consts + per_step + (True,) * (num_args - num_consts - num_carry)
    step = stage(jaxpr, wanted, args_reusable + per_step + (True,) * (num_results - num_carry))
    return _StagedScan(step, wanted, (*wanted[num_consts:][:num_carry], *step.live[num_carry:]))


class _ScanBackward(NamedTuple):
    """The backward pass of a differentiated `scan`.

    Attributes:
      step: closed jaxpr of one backward step:
        (steady residuals), (cotangents of the reached constants so far, of the given carry after the step),
        (cotangents of the given ys, stacked residuals)
        -> (cotangents of the constants, of the carry before the step), (cotangents of the reached xs).
      steady, stacked: which residuals are the same in every step, so that they are not stacked, and which are not.
      given: of which carry and ys it takes cotangents.
      reached: which of constants, carry and xs get a cotangent.
    """

    step: object
    steady: list[int]
    stacked: list[int]
    given: list[bool]
    reached: list[bool]


@weakref_lru_cache
def _stage_scan_backward(jaxpr, wanted, num_consts, num_carry, given) -> _ScanBackward:
    """Args: given: which of carry and ys have a cotangent after the last step."""
    forward, wanted, _ = _stage_scan(jaxpr, wanted, num_consts, num_carry)
    part, carry = settle_part(forward, jaxpr, wanted, num_consts, num_carry, given)
    reached = [bool(there) for there in expand(part.reached, wanted)]
    reached[num_consts : num_consts + num_carry] = carry
    sums, _, _ = split_list(reached, [num_consts, num_carry])
    first_constant = len(jaxpr.in_avals) + len(forward.forward.out_avals)
    is_steady = [i < num_consts or i >= first_constant for i in forward.residuals]
    used = sorted({i for i in part.residuals if i < len(is_steady)})
    steady, stacked = [i for i in used if is_steady[i]], [i for i in used if not is_steady[i]]

    def step(*operands):
        fixed, totals, carried, now, varying = split_list(
            operands, [len(steady), sum(sums), sum(carry), sum(part.given[num_carry:])]
        )
        residuals = dict(zip([*steady, *stacked], [*fixed, *varying], strict=True))
        residuals = part.collect([residuals.get(i) for i in range(len(is_steady))])
        after = [*expand(carried, carry), *expand(now, part.given[num_carry:])]
        found = jaxpr_as_fun(part.backward)(*residuals, *select(after, part.given))
        found = expand(found, expand(part.reached, wanted))
        to_consts, to_carry, to_xs = split_list(found, [num_consts, num_carry])
        return [
            *map(lax.add, totals, select(to_consts, sums)),
            *fill_zeros(to_carry, jaxpr.in_avals[num_consts:][:num_carry], carry),
            *(g for g in to_xs if g is not None),
        ]

    residual_avals = forward.backward.in_avals
    tangents = lambda avals, flags: [aval.to_tangent_aval() for aval in select(avals, flags)]
    avals = [
        *(residual_avals[i] for i in steady),
        *tangents(jaxpr.in_avals[: num_consts + num_carry], [*sums, *carry]),
        *tangents(jaxpr.out_avals[num_carry:], part.given[num_carry:]),
        *(residual_avals[i] for i in stacked),
    ]
    program = trace_to_closed_jaxpr(step, avals, "scan_backward")
    return _ScanBackward(program, steady, stacked, [*carry, *part.given[num_carry:]], reached)


@rule("scan")
def _scan(primitive, wanted, args, params):
    """The backward pass is a scan in the other direction; cotangents of constants are summed on the way."""
    jaxpr, (num_consts, num_carry) = params["jaxpr"], scan_sizes(params)
    step, _, live = _stage_scan(jaxpr, wanted, num_consts, num_carry)
    how = {name: params[name] for name in ("length", "unroll")}
    reverse = params["reverse"]
    consts, carry, xs = split_list(args, [num_consts, num_carry])
    outputs = bind_scan(step.forward, consts, carry, xs, reverse=reverse, **how)
    residuals = step.collect(args, outputs)
    results = outputs[: len(step.live)]
    avals, const_avals = [typeof(x) for x in results], [typeof(x) for x in consts]

    def pull(cotangents):
        given = tuple(g is not None for g in cotangents)
        back = _stage_scan_backward(jaxpr, wanted, num_consts, num_carry, given)
        zeros = map(instantiate, select(const_avals, back.reached[:num_consts]))
        carried, ys = split_list(fill_zeros(cotangents, avals, back.given), [sum(back.given[:num_carry])])
        fixed, stacked = ([residuals[i] for i in which] for which in (back.steady, back.stacked))
        found = bind_scan(back.step, fixed, [*zeros, *carried], [*ys, *stacked], reverse=not reverse, **how)
        return [g if want else None for g, want in zip(expand(found, back.reached), wanted, strict=True)]

    return results, live, pull


# ---------------------------------------------------------------- cond


class _StagedCond(NamedTuple):
    """Differentiated branches.

    Attributes:
      branches: the branches, differentiated one by one.
      forward: closed jaxprs, operands -> results + slots. A slot holds a residual of whichever branch ran; branches
        share the slots of equal type.
      places: per branch the slots of what it saves.
      used: the positions, in operands + results + slots, of what any backward branch needs.
      live: which results depend on a wanted operand in any branch.
    """

    branches: list[Staged]
    forward: tuple
    places: list[list[int]]
    used: list[int]
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

    def make_forward(branch, place):
        def forward(*args):
            results, saved = split_list(jaxpr_as_fun(branch.forward)(*args), [num_results])
            filled = dict(zip(place, saved, strict=True))
            return [*results, *(filled[i] if i in filled else zeros(aval) for i, aval in enumerate(slots))]

        return trace_to_closed_jaxpr(forward, first.in_avals, "cond_forward")

    return _StagedCond(branches, tuple(map(make_forward, branches, places)), places, used, live)


class _CondBackward(NamedTuple):
    """The backward pass of differentiated branches.

    Attributes:
      branches: closed jaxprs, values at `used` + cotangents of the given results -> cotangents of the reached operands.
      given: of which results it takes cotangents.
      reached: which operands get a cotangent in any branch.
    """

    branches: tuple
    given: tuple[bool, ...]
    reached: list[bool]


@weakref_lru_cache
def _stage_cond_backward(first, others, wanted, given) -> _CondBackward:
    """Args: given: which results have a cotangent."""
    staged = _stage_cond(first, others, wanted)
    num_known = len(first.in_avals) + len(first.out_avals)
    both = lambda live: tuple(a and b for a, b in zip(given, live, strict=True))
    jaxprs = (first, *others)
    parts = [part_of(branch, j, wanted, both(branch.live)) for branch, j in zip(staged.branches, jaxprs, strict=True)]
    given = tuple(map(any, zip(given, *(part.given for part in parts), strict=True)))
    reached = [any(there) for there in zip(*(expand(part.reached, wanted) for part in parts), strict=True)]
    position = {i: k for k, i in enumerate(staged.used)}

    def make_backward(branch, place, part):
        def backward(*operands):
            values, cotangents = split_list(operands, [len(staged.used)])
            known = {i: values[k] for i, k in position.items() if i < num_known}
            saved = {num_known + k: values[position[num_known + slot]] for k, slot in enumerate(place)}
            constants = {num_known + len(place) + k: x for k, x in enumerate(branch.constants)}
            pool = known | saved | constants
            residuals = part.collect([pool[i] for i in branch.residuals])
            found = jaxpr_as_fun(part.backward)(*residuals, *select(expand(cotangents, given), part.given))
            return fill_zeros(expand(found, expand(part.reached, wanted)), first.in_avals, reached)

        slots = staged.forward[0].out_avals[len(first.out_avals) :]
        everything = [*first.in_avals, *first.out_avals, *slots]
        given_avals = [aval.to_tangent_aval() for aval in select(first.out_avals, given)]
        return trace_to_closed_jaxpr(backward, [*(everything[i] for i in staged.used), *given_avals], "cond_backward")

    return _CondBackward(tuple(map(make_backward, staged.branches, staged.places, parts)), given, reached)


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


@rule("cond")
def _cond(primitive, wanted, args, params):
    """Forward and backward branch on the same index; only the branch that ran stores anything of its own."""
    index, *operands = args
    first, *others = params["branches"]
    others = tuple(others)
    staged = _stage_cond(first, others, wanted[1:])
    outputs = bind_cond(index, staged.forward, operands, params)
    results = outputs[: len(staged.live)]
    avals = [typeof(x) for x in results]
    pool = [*operands, *outputs]
    residuals = [pool[i] for i in staged.used]

    def pull(cotangents):
        back = _stage_cond_backward(first, others, wanted[1:], tuple(g is not None for g in cotangents))
        given = fill_zeros(cotangents, avals, back.given)
        found = bind_cond(index, back.branches, [*residuals, *given], params)
        return [None, *expand(found, back.reached)]

    return results, staged.live, pull
