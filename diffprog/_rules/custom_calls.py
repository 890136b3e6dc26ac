"""Primitives with a derivative of their own: hijax, linear calls.

Most hijax primitives have a forward and a backward rule, which are called here as they are. Some leave reverse mode to
the transpose of their tangent map, as `custom_jvp` functions do; then that map is recorded and run backward.
"""

from collections.abc import Callable

import jax
from jax import typeof

from diffprog._jax_internals import closed, instantiate, jaxpr_as_fun, set_current_trace, trace_to_closed_jaxpr
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
from diffprog._tracer.rules import rule
from diffprog._tracer.tape import Tape
from diffprog._tracer.vjp import run_taped
from diffprog._util.lists import expand

# ---------------------------------------------------------------- hijax


@rule("call_hi_primitive")
def _call_hi_primitive(primitive, wanted, args, params):
    inner = params["_prim"]
    known = rules_by_class.get(type(inner).__name__)
    if known is not None:
        return known(inner, wanted, args)
    if is_given_by_tangents(inner):
        return _by_tangents(tangent_map(inner, wanted, args), wanted, args)
    results, live, saved = run_forward(inner, wanted, args)
    return results, live, lambda cotangents: run_backward(inner, wanted, saved, cotangents)


def _by_tangents(tangents_of: Callable, wanted, args):
    """The rule by a linear map: tangents of wanted arguments -> results, their tangents (None for zero)."""

    def both(*tangents):
        results, found = tangents_of(*tangents)
        return [*results, *found]

    zeros = [instantiate(typeof(x)) for x, want in zip(args, wanted, strict=True) if want]
    outputs, taped = run_taped(both, zeros, [True] * len(zeros), _TangentTape)
    count = len(outputs) // 2
    taped = taped._replace(places=taped.places[count:])
    return outputs[:count], taped.active, lambda cotangents: expand(taped.pull(cotangents), wanted)


class _TangentTape(Tape):
    """Records a linear map. A primitive that is met there is linear; if it has a transpose of its own, that is used."""

    def process_primitive(self, primitive, args, params, /):
        if primitive.name == "jit":  # a body that is differentiated elsewhere would not know that it is linear
            with set_current_trace(self):
                return jaxpr_as_fun(params["jaxpr"])(*args)
        inner = params.get("_prim")
        values, sources = self.untrace(args)
        wanted = [source is not None for source in sources]
        if not any(wanted) or type(inner).__name__ in rules_by_class or not has_transpose(inner):
            return super().process_primitive(primitive, args, params)
        with set_current_trace(self.parent):
            results = primitive.bind(*values, **params)
        pull = lambda cotangents: run_transpose(inner, wanted, values, cotangents)
        return self.record(primitive.name, sources, results, [True] * len(results), pull)


def _checkpoint(inner, wanted, args):
    """`jax.checkpoint` under the flag jax_remat3."""
    prevent_cse = getattr(inner, "prevent_cse", True)  # since JAX 0.12
    return checkpoint(inner.jaxpr, wanted, args, policy=inner.policy, prevent_cse=prevent_cse)


def _expanded(inner, wanted, args):
    """The derivative of the program that the primitive stands for."""

    def program(*args):
        return jax.tree.leaves(inner.expand(*jax.tree.unflatten(inner.in_tree, args)))

    return call(trace_to_closed_jaxpr(program, [typeof(x) for x in args], "expanded"), wanted, args)


def _custom_root(inner, wanted, args):
    """`jax.lax.custom_root` since JAX 0.12. f(p, x(p)) = 0 implies dx = -(df/dx)^-1 (df/dp) dp."""
    _, _, p, solve_constants = arguments = jax.tree.unflatten(inner.in_tree, args)
    in_p = jax.tree.leaves(jax.tree.unflatten(inner.in_tree, wanted)[2])

    def tangents_of(*tangents):
        found = inner(*arguments)
        root, others = found if inner.has_aux else (found, ())
        zero = [None] * len(jax.tree.leaves(others))
        if not any(in_p):
            return jax.tree.leaves(found), [None] * len(jax.tree.leaves(root)) + zero
        all_tangents = jax.tree.unflatten(inner.in_tree, expand(tangents, wanted))
        dp = jax.tree.map(
            lambda x, t: instantiate(typeof(x)) if t is None else t, p, all_tangents[2], is_leaf=lambda t: t is None
        )
        _, df = jax.jvp(lambda p: inner.f(p, root), (p,), (dp,))
        dx = jax.tree.map(jax.lax.neg, inner.tangent_solve(solve_constants, root, df))
        return jax.tree.leaves(found), jax.tree.leaves(dx) + zero

    return _by_tangents(tangents_of, wanted, args)


rules_by_class = {
    "RematTraced": _checkpoint,
    "OptRemat": _expanded,
    "CustomRoot": _custom_root,
    "_RootLinearMap": _expanded,
}


# ---------------------------------------------------------------- linear calls


@rule("linear_call")
def _linear_call(primitive, wanted, args, params):
    """Linear in its last arguments, with a transpose given by the user, which is a linear call again."""
    callee, num_constants = params["callee"], params["num_callee_consts"]
    num_fixed = num_constants + params["num_res"]
    if any(wanted[:num_fixed]):
        fixed = (*wanted[:num_fixed], *[False] * (len(args) - num_fixed))
        results, _, pull_fixed = call(closed(callee), fixed, args)
    else:
        results, pull_fixed = primitive.bind(*args, **params), None
    avals = [typeof(x) for x in results]

    def pull(cotangents):
        given = fill_zeros(cotangents, avals, [True] * len(avals))
        transpose, constants = params["transpose_thunk"]()
        swapped = {
            "callee": transpose,
            "transpose_thunk": lambda: (callee, args[:num_constants]),
            "num_callee_consts": len(constants),
        }
        found = primitive.bind(*constants, *args[num_constants:num_fixed], *given, **(params | swapped))
        in_fixed = pull_fixed(cotangents)[:num_fixed] if pull_fixed else [None] * num_fixed
        return [*in_fixed, *found]

    return results, [True] * len(results), pull
