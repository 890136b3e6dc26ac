"""Finding the quickest plan that the compiler confirms to be within a budget."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from diffprog._jax_internals import weakref_lru_cache
from diffprog._jax_internals.compiled_memory import compile_with_lines, lines_at_peak
from diffprog._jax_internals.jaxprs import repeatable
from diffprog._rules.budget.operation import Budget
from diffprog._rules.budget.planner import Plan, plan_within
from diffprog._rules.budget.running import run_by_plan
from diffprog._rules.budget.segments import Program, segmented
from diffprog._rules.calls import call
from diffprog._tracer.references import MAKES_ONE
from diffprog._tracer.staging import Mask

_MOST_COMPILATIONS = 4
_USED = 0.85  # of a budget: a plan that uses less is worth another try
_MOST_STEPS = 8  # by the margin, from a plan that was tried to another one
_FARTHEST = 3  # times: no next try is further away
_MARGIN = 0.97  # of a budget, to aim at after a plan that exceeds it


@weakref_lru_cache
def confirmed_plan(jaxpr, needs_grad: Mask, budget: Budget) -> Plan | None:
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
        seconds, plan = plan_within(program, modelled)
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


@weakref_lru_cache
def _plain_bytes(jaxpr, needs_grad: Mask) -> int:
    return _bytes_held(_compiled(jaxpr, needs_grad, None))


def _compiled(jaxpr, needs_grad: Mask, plan: Plan | None):
    """Compile value and gradient by a plan; None for the gradient that keeps everything."""
    cotangents = [aval.to_ct_aval() for aval in jaxpr.out_avals]
    num_args, run = len(jaxpr.in_avals), call if plan is None else partial(run_by_plan, plan=plan)

    def both(*operands):
        args, sent_in = operands[:num_args], operands[num_args:]
        results, active, pull = run(jaxpr, needs_grad, args)
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
