"""Write out programs within programs for a `Recorder`: `jit`, `checkpoint`, loops, branches."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from diffprog._jax_internals import closed, concrete, scan_sizes, set_current_trace
from diffprog._jax_internals.jaxprs import count_operations
from diffprog._jax_internals.sources import program_source
from diffprog._tracer.rules import of_functions
from diffprog._util.lists import split_list

written_out: dict[str, Callable] = {}
"""Per primitive (recorder, arguments, parameters) -> results; None to keep it as one node."""


def _writes_out(*names):
    def register(function):
        for name in names:
            written_out[name] = function
        return function

    return register


@_writes_out(
    "jit", "closed_call", "core_closed_call", "remat2", "eval_jaxpr", "custom_vmap_call", "remat_opt", "call_apart"
)
def _call(recorder, args, params):
    jaxpr = next(params[name] for name in ("jaxpr", "call_jaxpr", "call", "fwd_jaxpr") if name in params)
    if program_source(jaxpr) in of_functions:
        return None
    with recorder.called():
        return recorder.write_out(closed(jaxpr), args)


@_writes_out("cond")
def _cond(recorder, args, params):
    """Write out the branch that is taken."""
    index, *operands = args
    if params.get("branches_platforms") is not None:  # one program, written for each kind of device
        return None
    chosen, first = min(max(int(concrete(index)), 0), len(params["branches"]) - 1), len(recorder.nodes)
    with recorder.called():
        with jax.named_scope(f"cond[{chosen}]"):
            results = recorder.write_out(params["branches"][chosen], operands)
        recorder.decided("cond", chosen, index, first)
        return results


@_writes_out("scan")
def _scan(recorder, args, params):
    jaxpr, length = params["jaxpr"], params["length"]
    if not length or not recorder.has_room_for(length * count_operations(jaxpr)):
        if length:
            _too_long(recorder, "scan", length)
        return None
    consts, carry, xs = split_list(args, scan_sizes(params))
    num_carry, first = len(carry), len(recorder.nodes)
    with recorder.called():
        with set_current_trace(recorder):
            rows = list(map(jnp.unstack, xs))
        ys: list = [None] * length
        for i in reversed(range(length)) if params["reverse"] else range(length):
            with recorder.iteration("scan", i):
                results = recorder.write_out(jaxpr, [*consts, *carry, *(row[i] for row in rows)])
            carry, ys[i] = results[:num_carry], results[num_carry:]
        recorder.decided("scan", length, None, first)
        with set_current_trace(recorder):
            return [*carry, *map(jnp.stack, zip(*ys, strict=True))]


@_writes_out("while")
def _while(recorder, args, params):
    """Write out iterations as long as there is room; the rest of them is one node."""
    cond_consts, body_consts, carry = split_list(args, [params["cond_nconsts"], params["body_nconsts"]])
    cond, body = params["cond_jaxpr"], params["body_jaxpr"]
    size, i, first = count_operations(cond) + count_operations(body), 0, len(recorder.nodes)
    if not recorder.has_room_for(size):
        _too_long(recorder, "while", None)
        return None
    with recorder.called():
        while True:
            with recorder.iteration("while", i):
                (going,) = recorder.write_out(cond, [*cond_consts, *carry])
                if not bool(jnp.any(going)):
                    break
                after = recorder.write_out(body, [*body_consts, *carry])
                carry = after if going.ndim == 0 else _where(recorder, going, after, carry)
            i += 1
            if not recorder.has_room_for(size):
                _too_long(recorder, "while", None)
                rest = [*cond_consts, *body_consts, *carry]
                carry = recorder.record_primitive(lax.while_p, rest, params)
                break
        recorder.decided("while", i, going, first)
        return list(carry)


def _where(recorder, going, after, before) -> list:
    """Let loops that run side by side (`vmap`) keep what they carry once they have ended."""
    with set_current_trace(recorder):
        wide = [lax.broadcast_in_dim(going, x.shape, range(going.ndim)) for x in after]
        return list(map(lax.select, wide, after, before))


def _too_long(recorder, loop, length):
    iterations = f" of {length} iterations" if length else ""
    note = f"a {loop}{iterations} is one node, or its last iterations are: there was no room in max_nodes="
    recorder.retention.note(f"{note}{recorder.retention.max_nodes}")
