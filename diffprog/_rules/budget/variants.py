"""Ways to run the loops and branches of a program so that their backward passes keep less."""

from collections.abc import Callable, Iterator
from functools import partial

from diffprog._jax_internals import bind_cond, jaxpr_as_fun, trace_to_closed_jaxpr, trace_to_jaxpr, weakref_lru_cache
from diffprog._jax_internals.jaxprs import count_operations, replaced, runs_any
from diffprog._rules.budget.operation import Allowance, Planned, planned
from diffprog._rules.budget.scans import can_vary, is_long, varied
from diffprog._tracer.references import MAKES_ONE

_FEWEST = 8  # operations of a branch or a step for which a plan of its own is worth it


def with_varied_scans(jaxpr) -> Iterator:
    """Iterate over programs, equal to a closed jaxpr, in which every long scan keeps less for its backward pass."""
    varies = lambda eqn: can_vary(eqn) and is_long(eqn)
    for way in ((False, True), (True, False), (True, True)) if any(map(varies, jaxpr.eqns)) else ():
        yield replaced(jaxpr, lambda eqn, way=way: varied(eqn, *way) if varies(eqn) else None)


def with_plans_inside(jaxpr, more: int) -> Iterator:
    """Iterate over programs, equal to a closed jaxpr, whose deep branches and steps of scans have plans of their own.

    A branch that holds little keeps everything. A scan keeps what the plan keeps of every step, or the carry before
    each stretch alone.

    Args:
      jaxpr: the closed jaxpr.
      more: bytes that each plan may hold, by the estimates, beyond the least.
    """
    has_steps, has_branches = (any(map(test, jaxpr.eqns)) for test in (_has_deep_steps, _has_deep_branches))

    def instead(eqn, shorter: bool) -> Callable | None:
        if _has_deep_branches(eqn):
            branches = [_by_plan(branch, more) for branch in eqn.params["branches"]]
            return lambda index, *operands: bind_cond(index, branches, operands, eqn.params)
        return varied(eqn, shorter, shorter, _by_plan(eqn.params["jaxpr"], more)) if _has_deep_steps(eqn) else None

    for shorter in [False] * (has_steps or has_branches) + [True] * has_steps:
        yield replaced(jaxpr, partial(instead, shorter=shorter))


@weakref_lru_cache
def _without_constants(jaxpr) -> tuple:
    """Make the constants of a closed jaxpr its first arguments: (closed jaxpr, constants), once for all its plans."""
    return trace_to_jaxpr(jaxpr_as_fun(jaxpr), jaxpr.in_avals, "planned")


@weakref_lru_cache
def _by_plan(jaxpr, more: int):
    """Make a closed jaxpr whose backward pass keeps what a plan says, to hold so many bytes beyond the least."""
    program, constants = _without_constants(jaxpr)
    operation = Planned(program, Allowance(more))
    return trace_to_closed_jaxpr(lambda *args: planned([*constants, *args], operation), jaxpr.in_avals, "planned")


def _has_deep_branches(eqn) -> bool:
    return eqn.primitive.name == "cond" and not eqn.effects and _any_is_deep(eqn.params["branches"])


def _has_deep_steps(eqn) -> bool:
    return can_vary(eqn) and _any_is_deep([eqn.params["jaxpr"]])


def _any_is_deep(programs) -> bool:
    is_deep = any(count_operations(program) >= _FEWEST for program in programs)
    return is_deep and not any(runs_any(program, *MAKES_ONE) for program in programs)
