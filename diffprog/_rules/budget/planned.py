"""A program whose backward pass keeps and recomputes what a plan says, within a budget of memory."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from math import inf
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import typeof

from diffprog._jax_internals import (
    add,
    asks_for_layout,
    eval_jaxpr,
    instantiate,
    jaxpr_as_fun,
    trace_to_closed_jaxpr,
    weakref_lru_cache,
)
from diffprog._jax_internals.calls_apart import call_apart, can_be_apart
from diffprog._jax_internals.compiled_memory import compile_with_lines, lines_at_peak
from diffprog._jax_internals.jaxprs import repeatable, with_jits_inlined
from diffprog._jax_internals.operations import batch_jaxpr, new_operation
from diffprog._jax_internals.sources import at_last_line, program_source
from diffprog._rules.budget.planner import Again, Keep, Plan, Planner
from diffprog._rules.budget.segments import Option, Program, Segment, segmented
from diffprog._rules.calls import call
from diffprog._tracer.references import MAKES_ONE
from diffprog._tracer.rules import of_functions, rule
from diffprog._tracer.staging import Mask, backward_for
from diffprog._util.lists import expand, select

_MOST_COMPILATIONS = 4
_USED = 0.85  # of a budget: a plan that uses less is worth another try
_MOST_STEPS = 8  # by the margin, from a plan that was tried to another one
_FARTHEST = 3  # times: no next try is further away
_MARGIN = 0.97  # of a budget, to aim at after a plan that exceeds it


@dataclass(frozen=True)
class Budget:
    """How many bytes a gradient may hold beyond its arguments and results.

    Attributes:
      bytes: that many, or None.
      fraction: of what the gradient without recomputation holds, if `bytes` is None.
    """

    bytes: int | None = None
    fraction: float = 1.0

    def allowed(self, plain: int) -> int:
        """Say how many bytes that is, where the gradient without recomputation holds `plain`."""
        return int(self.fraction * plain) if self.bytes is None else self.bytes


@dataclass(frozen=True)
class Planned:
    """The operation that runs a program, and whose backward pass stays within a budget.

    Attributes:
      program: closed jaxpr without constants, arguments -> results.
      budget: of the forward and the backward pass together.
    """

    program: Any
    budget: Budget

    def batch(self, axis, args, dims):
        moved = [x if d is None else jax.numpy.moveaxis(x, d, 0) for x, d in zip(args, dims, strict=True)]
        program, has_axis = batch_jaxpr(
            self.program, axis, [d is not None for d in dims], [False] * len(self.program.out_avals)
        )
        return planned(moved, Planned(program, self.budget)), [0 if there else None for there in has_axis]


planned = new_operation("planned")


@rule("planned")
def _planned(primitive, needs_grad, args, params):
    operation = params["operation"]
    jaxpr = with_jits_inlined(operation.program, _stays)
    plan = _plan(jaxpr, tuple(needs_grad), operation.budget)
    if plan is None:
        return call(operation.program, needs_grad, args)
    results, active, pull = _run(jaxpr, tuple(needs_grad), plan, args)
    return (
        results,
        active,
        lambda cotangents: [g if want else None for g, want in zip(pull(cotangents), needs_grad, strict=True)],
    )


def _stays(params) -> bool:
    """Whether a `jit` is not written out: it asks for a layout, or has a rule of its own."""
    return asks_for_layout(params) or program_source(params["jaxpr"]) in of_functions


# ---------------------------------------------------------------- running a plan


def _run(jaxpr, needs_grad: Mask, plan: Plan, args) -> tuple[list, list[bool], Callable]:
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


# ---------------------------------------------------------------- finding a plan


@weakref_lru_cache
def _plan(jaxpr, needs_grad: Mask, budget: Budget) -> Plan | None:
    """Find the quickest plan that the compiler confirms to be within a budget; None to keep everything.

    Raises:
      ValueError: the program cannot be run again, or no plan was found.
    """
    if not repeatable(jaxpr) or any(eqn.primitive.name in MAKES_ONE for eqn in jaxpr.eqns):
        raise ValueError(
            "memory= cannot be kept for a function with side effects, parts of which cannot be run again: remove "
            "callbacks and mutable arrays, or leave memory= out"
        )
    plain = _plain_bytes(jaxpr, needs_grad)
    allowed = budget.allowed(plain)
    if plain <= allowed:
        return None
    program, tries = segmented(jaxpr, needs_grad), list[_Try]()
    while len(tries) < _MOST_COMPILATIONS and (untried := _untried(program, tries, allowed)):
        modelled, seconds, plan = untried
        compiled = _compiled(jaxpr, needs_grad, plan)
        tries.append(_Try(modelled, seconds, plan, compiled, _bytes_held(compiled)))
        if _USED * allowed <= tries[-1].held <= allowed:
            break
    within = [t for t in tries if t.held <= allowed]
    if within:
        return min(within, key=lambda t: t.seconds).plan
    least = min(tries, key=lambda t: t.held)
    if least.held > plain:
        least = least._replace(held=plain, compiled=_compiled(jaxpr, needs_grad, None))
    raise ValueError(
        f"memory= is {in_words(allowed)}, and no plan holds the gradient within it: the least that was reached is "
        f"{in_words(least.held)}, without recomputation it holds {in_words(plain)}. {_most(least.compiled)}Allow more "
        "memory"
    )


class _Try(NamedTuple):
    """A plan that was compiled.

    Attributes:
      modelled: the budget that it was made for, in bytes of the model.
      seconds: its estimated time.
      plan: the plan.
      compiled: the compiled program.
      held: the compiler's figure, in bytes.
    """

    modelled: float
    seconds: float
    plan: Plan
    compiled: Any
    held: int


def _untried(program: Program, tries: list[_Try], allowed: int) -> tuple[float, float, Plan] | None:
    """Find the plan to try next: the budget that it is made for, its estimated time and the plan; None if none is near.

    After a plan that exceeds the budget it is one that holds less, after one that does not use it one that holds more.
    """
    exceeds = bool(tries) and tries[-1].held > allowed
    modelled = _aim(tries, _MARGIN * allowed if exceeds else allowed)
    tried = {t.plan for t in tries}
    for _ in range(_MOST_STEPS):
        seconds, plan = _plan_within(program, modelled)
        if plan not in tried:
            return modelled, seconds, plan
        modelled *= _MARGIN if exceeds else 1 / _MARGIN
    return None


def _aim(tries: list[_Try], target: float) -> float:
    """Say for how many bytes of the model the compiler's figure is probably `target`.

    Near the least that can be reached the two are not in proportion, so that the line through the last two tries is
    followed.
    """
    if not tries:
        return target
    last = tries[-1]
    if len(tries) > 1:
        modelled, held = last.modelled - tries[-2].modelled, last.held - tries[-2].held
        if modelled * held > 0:
            along = last.modelled + (target - last.held) * modelled / held
            return float(np.clip(along, last.modelled / _FARTHEST, last.modelled * _FARTHEST))
    return last.modelled * target / max(last.held, 1)


def _most(compiled) -> str:
    """Name the lines that hold most of it at the peak; nothing where the compiler does not say."""
    lines = lines_at_peak(compiled)
    total = sum(line.bytes for line in lines)
    named = [f"{in_words(line.bytes)} by {line.where}" for line in lines[:3] if line.bytes > total / 100]
    return f"At the peak, {', '.join(named)}. " if named else ""


def _plan_within(program: Program, allowed: float) -> tuple[float, Plan]:
    """Find the quickest plan within a budget by the estimates, and its time; if there is none, one that holds little.

    By the compiler's figure a plan may hold less than was estimated.
    """
    planner = Planner(program, allowed)
    if planner.seconds == inf:
        larger = (Planner(program, program.bytes_if_kept() * 2**i) for i in count())
        enough = next(planner for planner in larger if planner.seconds < inf)
        planner = Planner(program, enough.least_bytes)
        planner = planner if planner.seconds < inf else enough  # there bytes are rounded to finer levels
    return planner.seconds, planner.plan()


@weakref_lru_cache
def _plain_bytes(jaxpr, needs_grad: Mask) -> int:
    return _bytes_held(_compiled(jaxpr, needs_grad, None))


def _compiled(jaxpr, needs_grad: Mask, plan: Plan | None):
    """Compile value and gradient by a plan; None for the gradient that keeps everything."""
    cotangents = [aval.to_ct_aval() for aval in jaxpr.out_avals]
    num_args = len(jaxpr.in_avals)

    def both(*operands):
        args, sent_in = operands[:num_args], operands[num_args:]
        results, active, pull = call(jaxpr, needs_grad, args) if plan is None else _run(jaxpr, needs_grad, plan, args)
        return results, pull([g if flag else None for g, flag in zip(sent_in, active, strict=True)])

    structs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in (*jaxpr.in_avals, *cotangents)]
    return compile_with_lines(jax.jit(both).lower(*structs))


def _bytes_held(compiled) -> int:
    """Ask the compiler what a program holds beyond its arguments and results."""
    figures = compiled.memory_analysis()
    if figures is None:
        raise ValueError("memory= needs a compiler that tells what a program holds, as those for CPU and GPU do")
    return figures.temp_size_in_bytes


def in_words(num_bytes: float) -> str:
    """Write a number of bytes, as "12.3 MB" (of 2^20 bytes)."""
    for unit, size in (("GB", 2**30), ("MB", 2**20), ("kB", 2**10)):
        if num_bytes >= 1000 / 1024 * size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{int(num_bytes)} bytes"
