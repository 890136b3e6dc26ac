"""The rule of a program within a budget: its plan is found, and run."""

from diffprog._jax_internals import asks_for_layout
from diffprog._jax_internals.jaxprs import with_jits_inlined
from diffprog._jax_internals.sources import program_source
from diffprog._rules.budget.operation import Budget
from diffprog._rules.budget.planner import estimated_plan
from diffprog._rules.budget.running import run_by_plan
from diffprog._rules.budget.search import confirmed_plan
from diffprog._rules.calls import call
from diffprog._tracer.rules import of_functions, rule


@rule("planned")
def _planned(primitive, needs_grad, args, params):
    operation, needs_grad = params["operation"], tuple(needs_grad)
    jaxpr = with_jits_inlined(operation.program, _stays)
    find = confirmed_plan if isinstance(operation.budget, Budget) else estimated_plan
    plan = find(jaxpr, needs_grad, operation.budget)
    if plan is None:
        return call(operation.program, needs_grad, args)
    results, active, pull = run_by_plan(jaxpr, needs_grad, args, plan)
    return (
        results,
        active,
        lambda cotangents: [g if want else None for g, want in zip(pull(cotangents), needs_grad, strict=True)],
    )


def _stays(params) -> bool:
    """Whether a `jit` is not written out: it asks for a layout, or has a rule of its own."""
    return asks_for_layout(params) or program_source(params["jaxpr"]) in of_functions
