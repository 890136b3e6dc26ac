"""Derivatives that others wrote: `jax.custom_jvp`, `jax.custom_vjp` and primitives with rules registered with JAX.

A rule for tangents is a linear map of them, recorded and run backward: no transposition machinery is needed.
"""

from collections.abc import Callable, Sequence

from diffprog._jax_internals import (
    RULES_RETURN_LOGS,
    SymbolicZero,
    any_tangent,
    bind_unchanged,
    is_symbolic_zero,
    set_current_trace,
    take_current_trace,
    typeof,
    user_line,
    zero_tangent,
)
from diffprog._jax_internals.foreign import has_transpose, result_types, run_jvp, run_transpose
from diffprog._jax_internals.sources import program_source
from diffprog._tracer import references
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.errors import MissingDerivative
from diffprog._tracer.references import Reference
from diffprog._tracer.rules import of_functions, rules
from diffprog._util.lists import expand, select


def linear_map(tape, owner: str, tangents_of: Callable, args: Sequence, needs_grad: Sequence[bool]):
    """Run a tangent map, and transpose it.

    Args:
      tape: the tape on which the owner of the map is met.
      owner: whose map it is, for messages.
      tangents_of: tangents of the arguments in `needs_grad` -> results, their tangents (None for zero).
      args: the arguments.
      needs_grad: which of them need a cotangent.

    Returns:
      The results, which of them are active, and the map from their cotangents to those of the arguments.
    """
    with set_current_trace(tape.parent):
        zeros = list(map(any_tangent, select(args, needs_grad)))
    outputs, taped = tape.linear(owner).run(tangents_of, zeros, [True] * len(zeros))
    num_results = len(outputs) // 2
    taped = taped._replace(places=taped.places[num_results:])
    return outputs[:num_results], taped.active, lambda cotangents: expand(taped.pull(cotangents), needs_grad)


def custom_jvp_call(tape, primitive, fun, jvp, args, symbolic_zeros):
    """Record a `custom_jvp` function."""
    values, sources = tape.untrace(args)
    run = lambda *values: bind_unchanged(
        primitive, tape.parent, values, {"subfuns": (fun, jvp), "symbolic_zeros": symbolic_zeros}
    )
    if all(source is None for source in sources):
        return run(*values)

    needs_grad = [source is not None for source in sources]
    rule = of_functions.get(program_source(fun, len(values)))
    if rule is not None:
        with set_current_trace(tape.parent):
            outcome = rule(run, needs_grad, values, None)
        if outcome is not None:
            return tape.record(primitive.name, sources, *outcome)
    with set_current_trace(tape.parent):
        zero = lambda aval: SymbolicZero(aval.to_tangent_aval()) if symbolic_zeros else zero_tangent(aval)
        fixed = [None if want else zero(typeof(x)) for x, want in zip(values, needs_grad, strict=True)]

        def tangents_of(*tangents):
            full = [t if z is None else z for t, z in zip(expand(tangents, needs_grad), fixed, strict=True)]
            return jvp.call_wrapped(*values, *full)

        name = fun.debug_info.func_name
        results, active, pull = linear_map(tape, f"the custom_jvp function '{name}'", tangents_of, values, needs_grad)
    return tape.record(primitive.name, sources, results, active, pull)


def primitive_call(tape, primitive, needs_grad, values, params):
    """Differentiate a primitive by the JVP that its author registered: the outcome of its rule."""

    def tangents_of(*tangents):
        results, dots = run_jvp(primitive, values, expand(tangents, needs_grad), params)
        return [*results, *dots]

    owner = f"the primitive '{primitive.name}'"
    results, active, pull = linear_map(tape, owner, tangents_of, values, needs_grad)
    if primitive.multiple_results:
        return results, active, pull
    return results[0], (lambda cotangent: pull([cotangent])) if active[0] else None


def registered_transpose(primitive, needs_grad, values, params) -> Callable | None:
    """Find the transpose that the author of a primitive without a rule of ours registered."""
    if primitive.name in rules or not has_transpose(primitive):
        return None
    avals = result_types(primitive, values, params)
    return lambda cotangents: run_transpose(primitive, needs_grad, values, params, cotangents, avals)


def custom_vjp_call(tape, primitive, fun, fwd, bwd, args, out_trees, symbolic_zeros):
    """Record a `custom_vjp` function: its `fwd` runs now, its `bwd` in the backward pass.

    It may read a reference of the tape; the cotangent that `bwd` returns for it is that of its present content.
    """
    owner = f"the custom_vjp function '{fun.debug_info.func_name}'"
    own = tape.references_among(args)
    values, sources = tape.untrace([x.version if i in own else x for i, x in enumerate(args)])
    values = [own.get(i, x) for i, x in enumerate(values)]
    with set_current_trace(tape.parent):
        if all(source is None for source in sources):
            params = {"subfuns": (fun, fwd, bwd), "out_trees": out_trees, "symbolic_zeros": symbolic_zeros}
            if not own:
                return bind_unchanged(primitive, tape.parent, values, params)
            return references.operate_outside(primitive, values, params, own)
        needed = [source is not None for source in sources]
        flagged = lambda *values: fwd.call_wrapped(*(x for pair in zip(values, needed, strict=True) for x in pair))
        saved_and_results = _lending(tape, owner, flagged, values)
    _, residual_tree, forwarded = out_trees()
    num_saved = residual_tree.num_leaves - sum(position is not None for position in forwarded)
    saved, results = iter(saved_and_results[:num_saved]), saved_and_results[num_saved:]
    residuals = [next(saved) if position is None else values[position] for position in forwarded]
    avals = [typeof(x) for x in results]

    def pull(cotangents):
        if symbolic_zeros:
            pairs = zip(cotangents, avals, strict=True)
            full = [SymbolicZero(aval.to_ct_aval()) if g is None else g for g, aval in pairs]
        else:
            full = fill_zeros(cotangents, avals)
        sent = _lending(tape, owner, bwd.call_wrapped, [*residuals, *full])
        if RULES_RETURN_LOGS:
            sent, _ = sent
        return [None if is_symbolic_zero(g) else g for g in sent]

    return tape.record(primitive.name, sources, results, [True] * len(results), pull)


def _lending(tape, owner: str, function: Callable, args: Sequence):
    """Run a user's function on arguments that may be references of `tape`, which it may only read."""
    own = tape.references_among(args)
    if not own:
        return function(*args)
    with take_current_trace() as parent:
        inner = tape.beside(parent)
        inner.has_references = True
        contents = {i: tape.untraced(x.version)[0] for i, x in own.items()}
        lent = {i: Reference(inner, own[i].aval, x) for i, x in contents.items()}
        with set_current_trace(inner):
            outputs = function(*(lent.get(i, x) for i, x in enumerate(args)))
    if any(lent[i].version is not x for i, x in contents.items()):
        raise MissingDerivative(
            f"{owner} writes to a mutable array that the differentiated function made for itself,",
            user_line(),
            "make the array outside, or return the value from the function",
        )
    returned = {id(lent[i]): x for i, x in own.items()}
    return [returned.get(id(x), x) for x in outputs] if isinstance(outputs, list) else outputs
