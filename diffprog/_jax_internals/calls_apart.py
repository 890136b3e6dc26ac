"""The call apart: a program that the compiler neither inlines nor merges with what is around it.

On XLA's CPU backend an optimization barrier orders nothing: it is dropped before values are scheduled, so what a
backward pass computes again is computed early, or merged with the first time, and kept. The buffers of a call that is
not inlined live only while it runs, and as its operands include the cotangents, nothing in it can start early.

Other backends keep barriers until they have scheduled; there the program is written out in place.
"""

from collections.abc import Callable
from functools import wraps

import jax
from jax import typeof
from jax._src import ad_util
from jax._src.interpreters import ad, batching, mlir
from jax._src.lib.mlir import ir
from jax._src.util import weakref_lru_cache
from jax.extend.core import Primitive, jaxpr_as_fun

from diffprog._jax_internals.convolutions import with_fast_convolutions
from diffprog._jax_internals.jaxprs import eval_jaxpr, keep_outputs, trace_to_closed_jaxpr

__all__ = ["apart", "call_apart", "can_be_apart"]

call_apart_p = Primitive("call_apart")
call_apart_p.multiple_results = True
# Operation by operation, as JAX runs a checkpoint, and looking for NaN where that is asked for.
call_apart_p.def_impl(lambda *args, jaxpr: eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *args))
call_apart_p.def_abstract_eval(lambda *_, jaxpr: jaxpr.out_avals)


def can_be_apart(program) -> bool:
    """Whether a closed jaxpr can run in a call apart: not if it has effects, or values of types that are lowered."""
    return not program.effects and not getattr(program, "is_high", getattr(program.jaxpr, "is_high", False))


def call_apart(program, args) -> list:
    """Run a closed jaxpr that `can_be_apart` in a call apart."""
    return call_apart_p.bind(*args, jaxpr=with_fast_convolutions(program))


def _lower_as_call(ctx, *args, jaxpr):
    results, _ = mlir.call_lowering(
        "call_apart",
        jaxpr,
        None,
        ctx.module_context,
        ctx.avals_in,
        ctx.avals_out,
        mlir.TokenSet(),
        *args,
        dim_var_values=ctx.dim_var_values,
        const_lowering=ctx.const_lowering,
        attributes={"inlineable": ir.StringAttr.get("false")},
    )
    return [mlir.lower_with_sharding_in_types(ctx, x, aval) for x, aval in zip(results, ctx.avals_out, strict=True)]


def _run(*args, jaxpr):
    return jaxpr_as_fun(jaxpr)(*args)


mlir.register_lowering(call_apart_p, mlir.lower_fun(_run, multiple_results=True))
mlir.register_lowering(call_apart_p, _lower_as_call, platform="cpu")


def _batch(axis, args, dims, *, jaxpr):
    moved = [x if d is None else batching.moveaxis(x, d, 0) for x, d in zip(args, dims, strict=True)]
    jaxpr, has_axis = batching.batch_jaxpr(jaxpr, axis, [d is not None for d in dims], False)
    return call_apart(jaxpr, moved), [0 if there else None for there in has_axis]


batching.fancy_primitive_batchers[call_apart_p] = _batch


def _jvp(primals, tangents, *, jaxpr):
    """Run the program, and the map of its tangents in a call of its own, so that this is linear in them."""
    moving = [type(t) is not ad_util.Zero for t in tangents]
    both, moved = ad.jvp_jaxpr(jaxpr, moving, False)
    num_results = len(jaxpr.out_avals)
    alone = keep_outputs(both, (*[False] * num_results, *[True] * sum(moved)))
    dots = iter(call_apart(alone, [*primals, *(t for t, there in zip(tangents, moving, strict=True) if there)]))
    results = call_apart(jaxpr, primals)
    return results, [
        next(dots) if there else ad_util.Zero(typeof(x).to_tangent_aval())
        for x, there in zip(results, moved, strict=True)
    ]


ad.primitive_jvps[call_apart_p] = _jvp


def _transpose(cotangents, *args, jaxpr):
    is_linear = list(map(ad.is_undefined_primal, args))
    known = [x for x, linear in zip(args, is_linear, strict=True) if not linear]
    unknown = [x.aval for x, linear in zip(args, is_linear, strict=True) if linear]

    def pull(*operands):
        fixed, sent = operands[: len(known)], operands[len(known) :]

        def of_unknown(*moving):
            fixed_left, moving_left = iter(fixed), iter(moving)
            return _run(*(next(moving_left if linear else fixed_left) for linear in is_linear), jaxpr=jaxpr)

        return jax.linear_transpose(of_unknown, *unknown)(list(sent))

    operands = [*known, *map(ad.instantiate_zeros, cotangents)]
    pulled = iter(call_apart(trace_to_closed_jaxpr(pull, list(map(typeof, operands)), "call_apart"), operands))
    return [next(pulled) if linear else None for linear in is_linear]


ad.primitive_transposes[call_apart_p] = _transpose


def apart(function: Callable) -> Callable:
    """Run a function of arrays, with static options by keyword, in a call apart; it is traced once for equal types."""

    @wraps(function)
    def run(*args, **options):
        (result,) = call_apart(_program(function, tuple(options.items()), tuple(map(typeof, args))), args)
        return result

    return run


@weakref_lru_cache
def _program(function: Callable, options: tuple, avals: tuple):
    return trace_to_closed_jaxpr(lambda *args: [function(*args, **dict(options))], avals, function.__name__)
