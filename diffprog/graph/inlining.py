"""Programs within programs, written out: `jit`, `checkpoint`, loops, branches."""

from collections.abc import Callable

import jax
from jax import lax

from diffprog.graph.recorder import Recorder
from diffprog.jax_internals import closed, concrete, instantiate, scan_sizes, set_current_trace, typeof
from diffprog.jax_internals.operations import count_operations
from diffprog.rules.calls import split

written_out: dict[str, Callable] = {}
"""Per primitive (recorder, arguments, parameters) -> results; None to keep it as one node."""


def _writes_out(*names):
    def register(function):
        for name in names:
            written_out[name] = function
        return function

    return register


@_writes_out("jit", "closed_call", "core_closed_call", "remat2", "eval_jaxpr", "custom_vmap_call", "remat_opt")
def _call(recorder: Recorder, args, params):
    jaxpr = next(params[name] for name in ("jaxpr", "call_jaxpr", "call", "fwd_jaxpr") if name in params)
    with recorder.called():
        return recorder.run(closed(jaxpr), args)


@_writes_out("cond")
def _cond(recorder: Recorder, args, params):
    """The branch that is taken."""
    index, *operands = args
    if params.get("branches_platforms") is not None:  # one program, written for each kind of device
        return None
    chosen = min(max(int(concrete(index)), 0), len(params["branches"]) - 1)
    with recorder.called(), jax.named_scope(f"cond[{chosen}]"):
        return recorder.run(params["branches"][chosen], operands)


@_writes_out("scan")
def _scan(recorder: Recorder, args, params):
    jaxpr, length = params["jaxpr"], params["length"]
    if not length or not recorder.has_room_for(length * count_operations(jaxpr)):
        if length:
            _too_long(recorder, "scan", length)
        return None
    consts, carry, xs = split(args, *scan_sizes(params))
    num_carry = len(carry)
    with recorder.called():
        rows = [_unstack(recorder, x, length) for x in xs]
        ys: list = [None] * length
        for i in reversed(range(length)) if params["reverse"] else range(length):
            with recorder.iteration("scan", i):
                results = recorder.run(jaxpr, [*consts, *carry, *(row[i] for row in rows)])
            carry, ys[i] = results[:num_carry], results[num_carry:]
        return [*carry, *(_stack(recorder, column) for column in zip(*ys, strict=True))]


@_writes_out("while")
def _while(recorder: Recorder, args, params):
    """Iteration by iteration, as long as there is room; the rest of them is one node."""
    cond_consts, body_consts, carry = split(args, params["cond_nconsts"], params["body_nconsts"])
    cond, body = params["cond_jaxpr"], params["body_jaxpr"]
    size, i = count_operations(cond) + count_operations(body), 0
    if not recorder.has_room_for(size):
        _too_long(recorder, "while", None)
        return None
    with recorder.called():
        while True:
            with recorder.iteration("while", i):
                (going,) = recorder.run(cond, [*cond_consts, *carry])
                if not bool(going):
                    return list(carry)
                carry = recorder.run(body, [*body_consts, *carry])
            i += 1
            if not recorder.has_room_for(size):
                _too_long(recorder, "while", None)
                rest = [*cond_consts, *body_consts, *carry]
                return recorder.keep_one(lax.while_p, rest, params)


def _too_long(recorder, loop, length):
    of = f" of {length} iterations" if length else ""
    note = f"a {loop}{of} is one node, or its last iterations are: there was no room in max_nodes="
    recorder.keeping.note(f"{note}{recorder.keeping.max_nodes}")


def _unstack(recorder: Recorder, xs, length) -> list:
    """The rows of an array, as one node."""
    value, source = recorder.untraced(xs)
    rows_of = lambda x: [lax.dynamic_index_in_dim(x, i, keepdims=False) for i in range(length)]

    def run():
        with set_current_trace(recorder.parent):
            rows = rows_of(value)
        if source is None:
            return rows

        like = typeof(rows[0])
        full = lambda given: [lax.expand_dims(instantiate(like) if g is None else g, [0]) for g in given]
        pull = lambda given: [lax.concatenate(full(given), 0)]
        return recorder.record("unstack", [source], rows, [True] * length, pull)

    return recorder.keep("unstack", [xs], {"axis": 0}, run, rows_of, True)


def _stack(recorder: Recorder, rows):
    """Rows as one array, as one node."""
    values, sources = zip(*map(recorder.untraced, rows), strict=True)
    stack = lambda *values: lax.concatenate([lax.expand_dims(x, [0]) for x in values], 0)

    def run():
        with set_current_trace(recorder.parent):
            whole = stack(*values)
        if all(source is None for source in sources):
            return [whole]
        pull = lambda given: [lax.dynamic_index_in_dim(given[0], i, keepdims=False) for i in range(len(rows))]
        return recorder.record("stack", sources, [whole], [True], pull)

    again = lambda *values: [stack(*values)]
    return recorder.keep("stack", rows, {"axis": 0}, run, again, True)[0]
