"""Primitives of our own, which run a program."""

from functools import partial

import jax
from jax._src import ad_util, dispatch
from jax._src.interpreters import ad, batching, mlir
from jax.extend.core import Primitive, jaxpr_as_fun

from diffprog._jax_internals import float0
from diffprog._jax_internals.convolutions import with_fast_convolutions

__all__ = ["batch_jaxpr", "new_operation"]


def new_operation(name: str):
    """Make a primitive that runs a program, but is batched and differentiated in a way of its own.

    Its one parameter, `operation`, has the attribute `program` (a closed jaxpr: what the operation computes) and the
    method `batch(mapped axis, args, which axis of each is mapped) -> results, which axis of each is mapped`.
    Forward mode goes through the program.

    Returns:
      A function (args, operation) -> list of results, which binds it.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(partial(dispatch.apply_primitive, primitive))
    primitive.def_effectful_abstract_eval(_abstract_eval)
    mlir.register_lowering(primitive, mlir.lower_fun(_run, multiple_results=True))
    batching.fancy_primitive_batchers[primitive] = _batch
    ad.primitive_jvps[primitive] = _jvp
    return lambda args, operation: primitive.bind(*args, operation=operation)


def _run(*args, operation):
    return jaxpr_as_fun(with_fast_convolutions(operation.program))(*args)


def _abstract_eval(*avals, operation):
    return operation.program.out_avals, operation.program.effects


def _batch(axis, args, dims, *, operation):
    return operation.batch(axis, args, dims)


def _jvp(primals, tangents, *, operation):
    moving = [i for i, t in enumerate(tangents) if type(t) is not ad_util.Zero]

    def program(*moved):
        args = list(primals)
        for i, x in zip(moving, moved, strict=True):
            args[i] = x
        return _run(*args, operation=operation)

    results, dots = jax.jvp(program, [primals[i] for i in moving], [tangents[i] for i in moving])
    zero = lambda x: ad_util.Zero(jax.typeof(x).to_tangent_aval())
    return results, [zero(x) if t.dtype == float0 else t for x, t in zip(results, dots, strict=True)]


def batch_jaxpr(jaxpr, axis, batched, results_batched):
    """Map a closed jaxpr over a first axis of some of its arguments.

    Args:
      jaxpr: closed jaxpr.
      axis: the mapped axis, as an operation's `batch` got it.
      batched: which arguments have the axis.
      results_batched: which results have the axis in any case.

    Returns:
      The closed jaxpr, and which of its results have the axis.
    """
    jaxpr, has_axis = batching.batch_jaxpr(jaxpr, axis, list(batched), list(results_batched))
    return jaxpr, list(has_axis)
