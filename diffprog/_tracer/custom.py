"""Functions whose derivative the user wrote: `jax.custom_jvp` and `jax.custom_vjp`."""

from diffprog._jax_internals import (
    SymbolicZero,
    bind_unchanged,
    instantiate,
    is_symbolic_zero,
    set_current_trace,
    typeof,
    zero_tangent,
)
from diffprog._tracer.backward import backward


def custom_jvp_call(tape, primitive, fun, jvp, args, symbolic_zeros):
    """Record a `custom_jvp` function.

    Its tangent map t -> jvp(x, t) is linear, so the reverse pass over that map, recorded at zero, is its
    transpose: no transposition machinery is needed.
    """
    values, sources = zip(*map(tape.untraced, args), strict=True) if args else ((), ())
    if all(source is None for source in sources):
        params = {"subfuns": (fun, jvp), "symbolic_zeros": symbolic_zeros}
        return bind_unchanged(primitive, tape.parent, values, params)

    with set_current_trace(tape.parent):
        inner = tape.fresh()
        tangents = []
        for value, source in zip(values, sources, strict=True):
            aval = typeof(value)
            if source is not None:
                tangents.append(inner.watch(zero_tangent(aval)))
            elif symbolic_zeros:
                tangents.append(SymbolicZero(aval.to_tangent_aval()))
            else:
                tangents.append(zero_tangent(aval))
        with set_current_trace(inner):
            results = jvp.call_wrapped(*values, *tangents)
    count = len(results) // 2
    results = [inner.untraced(x)[0] for x in results[:count]] + list(results[count:])
    places = [None if is_symbolic_zero(t) else inner.untraced(t)[1] for t in results[count:]]
    starts = [t.node for t, source in zip(tangents, sources, strict=True) if source is not None]

    def pull(cotangents):
        pairs = zip(places, cotangents, strict=True)
        seeds = [(place, g) for place, g in pairs if place is not None and g is not None]
        found = iter(backward(seeds, starts))
        return [None if source is None else next(found) for source in sources]

    live = [place is not None for place in places]
    return tape.record(primitive.name, sources, results[:count], live, pull)


def custom_vjp_call(tape, primitive, fun, fwd, bwd, args, out_trees, symbolic_zeros):
    """Record a `custom_vjp` function: its `fwd` runs now, its `bwd` in the backward pass."""
    values, sources = zip(*map(tape.untraced, args), strict=True) if args else ((), ())
    if all(source is None for source in sources):
        params = {"subfuns": (fun, fwd, bwd), "out_trees": out_trees, "symbolic_zeros": symbolic_zeros}
        return bind_unchanged(primitive, tape.parent, values, params)

    flagged = [x for value, source in zip(values, sources, strict=True) for x in (value, source is not None)]
    with set_current_trace(tape.parent):
        saved_and_results = fwd.call_wrapped(*flagged)
    _, residual_tree, forwarded = out_trees()
    count = residual_tree.num_leaves - sum(position is not None for position in forwarded)
    saved, results = iter(saved_and_results[:count]), saved_and_results[count:]
    residuals = [next(saved) if position is None else values[position] for position in forwarded]
    avals = [typeof(x) for x in results]

    def pull(cotangents):
        if symbolic_zeros:
            full = [
                SymbolicZero(aval.to_tangent_aval()) if g is None else g
                for g, aval in zip(cotangents, avals, strict=True)
            ]
        else:
            full = [instantiate(aval) if g is None else g for g, aval in zip(cotangents, avals, strict=True)]
        found = bwd.call_wrapped(*residuals, *full)
        if isinstance(found, tuple):  # since JAX 0.11: (cotangents, logs)
            found, _ = found
        return [None if is_symbolic_zero(g) else g for g in found]

    return tape.record(primitive.name, sources, results, [True] * len(results), pull)
