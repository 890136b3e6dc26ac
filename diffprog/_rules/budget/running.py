"""Running a plan: forward, then backward through what was kept and what runs again."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import typeof

from diffprog._jax_internals import add, eval_jaxpr, instantiate, jaxpr_as_fun, trace_to_closed_jaxpr
from diffprog._jax_internals.calls_apart import call_apart, can_be_apart
from diffprog._jax_internals.sources import at_last_line
from diffprog._rules.budget.planner import Again, Keep, Plan
from diffprog._rules.budget.segments import Option, Program, Segment, segmented
from diffprog._tracer.staging import Mask, backward_for
from diffprog._util.lists import expand, select


def run_by_plan(jaxpr, needs_grad: Mask, args, plan: Plan) -> tuple[list, list[bool], Callable]:
    """Run a closed jaxpr by a plan.

    Returns:
      The results, which of them are active, and the map from their cotangents to those of the arguments.
    """
    program = segmented(jaxpr, needs_grad)
    values = dict(enumerate(args))
    trail = _forward(program, plan, values)
    constants = iter(program.constants)
    results = [next(constants) if v is None else values[v] for v in program.results]

    def pull(cotangents):
        sent = _Cotangents()
        for v, g in zip(program.results, cotangents, strict=True):
            if g is not None:
                sent.add(v, g)
        _backward(program, trail, sent)
        return [sent.take(i) for i in range(program.num_inputs)]

    return results, [v in program.active for v in program.results], pull


class _Cotangents(dict):
    """Cotangents of values, by their numbers; those of one value are added."""

    def add(self, value: int, cotangent) -> None:
        self[value] = add(self[value], cotangent) if value in self else cotangent

    def take(self, value: int):
        return self.pop(value, None)


class _Step(NamedTuple):
    """What the forward pass leaves for one part of a plan.

    Attributes:
      part: the part.
      kept: residuals of a segment that keeps them, or the values that are read when segments are run again.
    """

    part: Keep | Again
    kept: Any


def _forward(program: Program, plan: Plan, values: dict[int, Any]) -> list[_Step]:
    """Run a plan forward; `values` grows by what the segments write."""
    trail = []
    for part in plan:
        if isinstance(part, Keep):
            trail.append(_Step(part, _run_keeping(*_chosen(program, part), values)))
        else:
            trail.append(_Step(part, {v: values[v] for v in _reads(program, part)}))
            for segment in program.segments[part.start : part.stop]:
                results = jaxpr_as_fun(segment.jaxpr)(*(values[v] for v in segment.reads))
                values.update(zip(segment.writes, results, strict=True))
    return trail


def _chosen(program: Program, part: Keep) -> tuple[Segment, Option]:
    segment = program.segments[part.segment]
    return segment, segment.options[part.option]


def _run_keeping(segment: Segment, option: Option, values) -> list | None:
    """Run a segment, and return its residuals."""
    args = [values[v] for v in segment.reads]
    if option.staged is None:
        values.update(zip(segment.writes, jaxpr_as_fun(option.jaxpr)(*args), strict=True))
        return None
    outputs = jaxpr_as_fun(option.staged.forward)(*args)
    values.update(zip(segment.writes, outputs, strict=False))
    return option.staged.collect(args, outputs)


def _reads(program: Program, part: Again) -> list[int]:
    """Find the values from before some segments that these read."""
    segments = program.segments[part.start : part.stop]
    written = {v for segment in segments for v in segment.writes}
    return list(dict.fromkeys(v for segment in segments for v in segment.reads if v not in written))


def _backward(program: Program, trail: list[_Step], cotangents: _Cotangents) -> None:
    """Run a plan backward; cotangents of what its segments write give way to those of what they read."""
    for part, kept in reversed(trail):
        last = part.segment if isinstance(part, Keep) else part.stop - 1
        with at_last_line(program.segments[last].jaxpr):
            if isinstance(part, Keep):
                _pull(*_chosen(program, part), kept, cotangents)
            else:
                _run_again_and_pull(program, part, kept, cotangents)


def _pull(segment: Segment, option: Option, residuals, cotangents: _Cotangents) -> None:
    given = [cotangents.take(v) for v in segment.active]
    if option.staged is None or all(g is None for g in given):
        return
    ct_in = iter(g is not None for g in given)
    mask = tuple(active and next(ct_in) for active in option.staged.active)
    partial = backward_for(option.staged, option.jaxpr, segment.needs_grad, mask)
    by_value = dict(zip(segment.active, given, strict=True))
    sent_in = [
        by_value[v] if by_value.get(v) is not None else instantiate(aval.to_ct_aval())
        for v, aval in select(zip(segment.writes, segment.jaxpr.out_avals, strict=True), partial.ct_in)
    ]
    operands = [*partial.collect(residuals), *sent_in]
    apart = segment.is_heavy and can_be_apart(partial.program) and not partial.program.consts
    sent = (
        call_apart(partial.program, operands)
        if apart
        else eval_jaxpr(partial.program.jaxpr, partial.program.consts, *operands)
    )
    for v, g in zip(segment.reads, expand(sent, partial.ct_out), strict=True):
        if g is not None:
            cotangents.add(v, g)


def _run_again_and_pull(program: Program, part: Again, values: dict[int, Any], cotangents: _Cotangents) -> None:
    """Run segments again and backward in one call apart, which cannot start before their cotangents are there."""
    written = [v for segment in program.segments[part.start : part.stop] for v in segment.active]
    given = [v for v in written if v in cotangents]
    if not given:
        return
    reads, wanted = list(values), [v for v in values if v in program.active]
    reached: list[int] = []

    def run(*operands):
        inner = dict(zip(reads, operands, strict=False))
        sent = _Cotangents(zip(given, operands[len(reads) :], strict=True))
        with jax.named_scope("rematted_computation"):  # as in the programs of jax.grad
            trail = _forward(program, part.plan, inner)
        _backward(program, trail, sent)
        reached[:] = [v for v in wanted if v in sent]
        return [sent[v] for v in reached]

    operands = [*values.values(), *(cotangents.take(v) for v in given)]
    again = trace_to_closed_jaxpr(run, list(map(typeof, operands)), "rematted_computation")
    for v, g in zip(reached, _run_apart(again, operands), strict=True):
        cotangents.add(v, g)


def _run_apart(program, operands) -> list:
    return call_apart(program, operands) if can_be_apart(program) else jaxpr_as_fun(program)(*operands)
