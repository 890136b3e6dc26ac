"""Mutable arrays. Those that a differentiated function makes for itself are in `diffprog._tracer.references`."""

from diffprog._jax_internals import typeof, user_line
from diffprog._jax_internals.references import discharged
from diffprog._rules.calls import call
from diffprog._tracer.errors import MissingDerivative
from diffprog._tracer.rules import linear, rule

linear("accum_grad_in_ref", lambda g, x: g)


@rule("run_state")
def _run_state(primitive, needs_grad, args, params):
    """Differentiate a function of references as a pure function: values at the start -> values at the end."""
    return call(discharged(params["jaxpr"]), needs_grad, args)


@rule("swap", "addupdate")
def _write_outside(primitive, needs_grad, args, params):
    if typeof(args[0]).kind == "no_grad_no_remat":  # made so: what is written to it has no part in a gradient
        results = primitive.bind(*args, **params)
        return (results, [False] * len(results), None) if primitive.multiple_results else (results, None)
    raise MissingDerivative(
        "a value that depends on a differentiated argument is written to a mutable array from outside",
        user_line(),
        "make the array inside the differentiated function with jax.new_ref, return the value as auxiliary data, or "
        "write jax.lax.stop_gradient of it",
    )
