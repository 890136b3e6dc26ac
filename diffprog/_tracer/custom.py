"""Functions whose derivative the user wrote: `jax.custom_jvp` and `jax.custom_vjp`."""

from diffprog._jax_internals import (
    SymbolicZero,
    bind_unchanged,
    is_symbolic_zero,
    set_current_trace,
    typeof,
    zero_tangent,
)
from diffprog._tracer.cotangents import fill_zeros
from diffprog._util.lists import expand


def custom_jvp_call(tape, primitive, fun, jvp, args, symbolic_zeros):
    """Record a `custom_jvp` function.

    Its tangent map t -> jvp(x, t) is linear, so the reverse pass over that map, recorded at zero, is its
    transpose: no transposition machinery is needed.
    """
    values, sources = tape.untrace(args)
    if all(source is None for source in sources):
        params = {"subfuns": (fun, jvp), "symbolic_zeros": symbolic_zeros}
        return bind_unchanged(primitive, tape.parent, values, params)

    needs_grad = [source is not None for source in sources]
    with set_current_trace(tape.parent):
        avals = map(typeof, values)
        tangents = [
            SymbolicZero(aval.to_tangent_aval()) if symbolic_zeros and not want else zero_tangent(aval)
            for aval, want in zip(avals, needs_grad, strict=True)
        ]
        outputs, taped = tape.fresh().run(lambda *dots: jvp.call_wrapped(*values, *dots), tangents, needs_grad)
    num_results = len(outputs) // 2
    taped = taped._replace(places=taped.places[num_results:])
    pull = lambda cotangents: expand(taped.pull(cotangents), needs_grad)
    return tape.record(primitive.name, sources, outputs[:num_results], taped.active, pull)


def custom_vjp_call(tape, primitive, fun, fwd, bwd, args, out_trees, symbolic_zeros):
    """Record a `custom_vjp` function: its `fwd` runs now, its `bwd` in the backward pass."""
    values, sources = tape.untrace(args)
    if all(source is None for source in sources):
        params = {"subfuns": (fun, fwd, bwd), "out_trees": out_trees, "symbolic_zeros": symbolic_zeros}
        return bind_unchanged(primitive, tape.parent, values, params)

    flagged = [x for value, source in zip(values, sources, strict=True) for x in (value, source is not None)]
    with set_current_trace(tape.parent):
        saved_and_results = fwd.call_wrapped(*flagged)
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
        sent = bwd.call_wrapped(*residuals, *full)
        if isinstance(sent, tuple):  # since JAX 0.11: (cotangents, logs)
            sent, _ = sent
        return [None if is_symbolic_zero(g) else g for g in sent]

    return tape.record(primitive.name, sources, results, [True] * len(results), pull)
