"""Primitives with a derivative of their own: hijax, linear calls.

Most hijax primitives have a forward and a backward rule, which are called here as they are. Some leave reverse mode to
the transpose of their tangent map, as `custom_jvp` functions do; then that map is recorded and run backward. This is
an exception from "a rule knows no tape": on that tape an operation may have a transpose of its own, which goes first.
"""

from collections.abc import Callable

import jax
from jax import typeof

from diffprog._jax_internals import closed, instantiate, take_current_trace, trace_to_closed_jaxpr
from diffprog._jax_internals.hijax import (
    has_transpose,
    is_given_by_tangents,
    run_backward,
    run_forward,
    run_transpose,
    tangent_map,
)
from diffprog._rules.calls import call
from diffprog._rules.checkpoint import checkpoint
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.custom import linear_map
from diffprog._tracer.rules import rule, transposes
from diffprog._tracer.tape import Tape
from diffprog._util.lists import expand

# ---------------------------------------------------------------- hijax


@rule("call_hi_primitive")
def _call_hi_primitive(primitive, needs_grad, args, params):
    inner = params["_prim"]
    known = rules_by_class.get(type(inner).__name__)
    if known is not None:
        return known(inner, needs_grad, args)
    if is_given_by_tangents(inner):
        return _by_tangents(type(inner).__name__, tangent_map(inner, needs_grad, args), needs_grad, args)
    results, active, saved = run_forward(inner, needs_grad, args)
    return results, active, lambda cotangents: run_backward(inner, needs_grad, saved, cotangents)


def _by_tangents(name: str, tangents_of: Callable, needs_grad, args):
    """Transpose a linear map: tangents of the arguments in `needs_grad` -> results, their tangents (None for zero)."""

    def both(*tangents):
        results, dots = tangents_of(*tangents)
        return [*results, *dots]

    with take_current_trace() as parent:
        return linear_map(Tape(parent), f"the primitive '{name}'", both, args, needs_grad)


def _own_transpose(primitive, needs_grad, args, params):
    """Find the transpose that a hijax primitive brings, if it does."""
    inner = params["_prim"]
    if type(inner).__name__ in rules_by_class or not has_transpose(inner):
        return None
    return lambda cotangents: run_transpose(inner, needs_grad, args, cotangents)


transposes["call_hi_primitive"] = _own_transpose


def _checkpoint(inner, needs_grad, args):
    """Differentiate `jax.checkpoint` under the flag jax_remat3."""
    prevent_cse = getattr(inner, "prevent_cse", True)  # since JAX 0.12
    return checkpoint(inner.jaxpr, needs_grad, args, policy=inner.policy, prevent_cse=prevent_cse)


def _expanded(inner, needs_grad, args):
    """Differentiate the program that the primitive stands for."""

    def program(*args):
        return jax.tree.leaves(inner.expand(*jax.tree.unflatten(inner.in_tree, args)))

    return call(trace_to_closed_jaxpr(program, [typeof(x) for x in args], "expanded"), needs_grad, args)


def _custom_root(inner, needs_grad, args):
    """Differentiate `jax.lax.custom_root`, since JAX 0.12: f(p, x(p)) = 0 implies dx = -(df/dx)^-1 (df/dp) dp."""
    _, _, p, solve_constants = arguments = jax.tree.unflatten(inner.in_tree, args)
    in_p = jax.tree.leaves(jax.tree.unflatten(inner.in_tree, needs_grad)[2])

    def tangents_of(*tangents):
        results = inner(*arguments)
        root, others = results if inner.has_aux else (results, ())
        zero = [None] * len(jax.tree.leaves(others))
        if not any(in_p):
            return jax.tree.leaves(results), [None] * len(jax.tree.leaves(root)) + zero
        all_tangents = jax.tree.unflatten(inner.in_tree, expand(tangents, needs_grad))
        dp = jax.tree.map(
            lambda x, t: instantiate(typeof(x)) if t is None else t, p, all_tangents[2], is_leaf=lambda t: t is None
        )
        _, df = jax.jvp(lambda p: inner.f(p, root), (p,), (dp,))
        dx = jax.tree.map(jax.lax.neg, inner.tangent_solve(solve_constants, root, df))
        return jax.tree.leaves(results), jax.tree.leaves(dx) + zero

    return _by_tangents("custom_root", tangents_of, needs_grad, args)


rules_by_class = {
    "RematTraced": _checkpoint,
    "OptRemat": _expanded,
    "CustomRoot": _custom_root,
    "_RootLinearMap": _expanded,
}


# ---------------------------------------------------------------- linear calls


@rule("linear_call")
def _linear_call(primitive, needs_grad, args, params):
    """Differentiate a call that is linear in its last arguments.

    Its transpose is given by the user, and is a linear call again.
    """
    callee, num_constants = params["callee"], params["num_callee_consts"]
    num_fixed = num_constants + params["num_res"]
    if any(needs_grad[:num_fixed]):
        fixed = (*needs_grad[:num_fixed], *[False] * (len(args) - num_fixed))
        results, _, pull_fixed = call(closed(callee), fixed, args)
    else:
        results, pull_fixed = primitive.bind(*args, **params), None
    avals = [typeof(x) for x in results]

    def pull(cotangents):
        cotangents_in = fill_zeros(cotangents, avals)
        transpose, constants = params["transpose_thunk"]()
        swapped = {
            "callee": transpose,
            "transpose_thunk": lambda: (callee, args[:num_constants]),
            "num_callee_consts": len(constants),
        }
        operands = [*constants, *args[num_constants:num_fixed], *cotangents_in]
        sent = primitive.bind(*operands, **(params | swapped))
        in_fixed = pull_fixed(cotangents)[:num_fixed] if pull_fixed else [None] * num_fixed
        return [*in_fixed, *sent]

    return results, [True] * len(results), pull
