"""Primitives of our own, and what is asked of the jaxprs in them."""

from functools import partial

import jax
from jax._src import ad_util, core, debugging, dispatch
from jax._src.interpreters import ad, batching, mlir, partial_eval
from jax.extend.core import Primitive, jaxpr_as_fun

from diffprog._jax_internals import closed, float0, has_gradient, weakref_lru_cache

__all__ = [
    "batch_jaxpr",
    "bytes_of_values",
    "count_operations",
    "new_operation",
    "passed_on",
    "repeatable",
    "used_inputs",
]


def new_operation(name: str):
    """A primitive that runs a program, but is batched and differentiated in a way of its own.

    It has one parameter, `how`, with the attribute `program` (a closed jaxpr: what the operation computes) and the
    method `batch(mapped axis, args, which axis of each is mapped) -> results, which axis of each is mapped`.
    Forward mode goes through the program.

    Returns:
      bind(args, how) -> list of results.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(partial(dispatch.apply_primitive, primitive))
    primitive.def_effectful_abstract_eval(lambda *avals, how: (how.program.out_avals, how.program.effects))
    mlir.register_lowering(primitive, mlir.lower_fun(_run, multiple_results=True))
    batching.fancy_primitive_batchers[primitive] = lambda axis, args, dims, *, how: how.batch(axis, args, dims)
    ad.primitive_jvps[primitive] = _jvp
    return lambda args, how: primitive.bind(*args, how=how)


def _run(*args, how):
    return jaxpr_as_fun(how.program)(*args)


def _jvp(primals, tangents, *, how):
    moving = [i for i, t in enumerate(tangents) if type(t) is not ad_util.Zero]

    def program(*given):
        args = list(primals)
        for i, x in zip(moving, given, strict=True):
            args[i] = x
        return _run(*args, how=how)

    results, dots = jax.jvp(program, [primals[i] for i in moving], [tangents[i] for i in moving])
    zero = lambda x: ad_util.Zero(jax.typeof(x).to_tangent_aval())
    return results, [zero(x) if t.dtype == float0 else t for x, t in zip(results, dots, strict=True)]


# ---------------------------------------------------------------- jaxprs


def batch_jaxpr(jaxpr, axis, batched, results_batched):
    """Map a closed jaxpr over a first axis of its `batched` arguments.

    Args:
      axis: the mapped axis, as an operation's `batch` got it.
      results_batched: which results have the axis in any case.

    Returns:
      the closed jaxpr, and which of its results have the axis.
    """
    jaxpr, found = batching.batch_jaxpr(jaxpr, axis, list(batched), list(results_batched))
    return jaxpr, list(found)


def passed_on(jaxpr) -> list[int | None]:
    """Per result of a closed jaxpr the argument that it is, None for one that is computed."""
    position = {v: i for i, v in enumerate(jaxpr.jaxpr.invars)}
    return [None if isinstance(v, core.Literal) else position.get(v) for v in jaxpr.jaxpr.outvars]


def used_inputs(jaxpr) -> list[bool]:
    """Which arguments of a closed jaxpr any result depends on."""
    return partial_eval.dce_jaxpr(jaxpr.jaxpr, True)[1]


@weakref_lru_cache
def count_operations(jaxpr) -> int:
    """How many operations a closed jaxpr is when it is written out; of a `while` loop one iteration."""
    count = 0
    for eqn in jaxpr.jaxpr.eqns:
        inner = [count_operations(closed(program)) for program in core.jaxprs_in_params(eqn.params)]
        count += 1 + (sum(inner) * eqn.params["length"] if eqn.primitive.name == "scan" else sum(inner))
    return count


def bytes_of_values(jaxpr) -> tuple[int, int]:
    """Bytes of all results in a closed jaxpr when it is written out, and of the gradients at them and where they are
    used; of a `while` loop one iteration's, of a `cond` all branches'."""

    def size(atom):
        aval = atom.aval
        return getattr(aval, "size", 0) * getattr(aval.dtype, "itemsize", 0) if hasattr(aval, "dtype") else 0

    values = gradients = 0
    for eqn in jaxpr.jaxpr.eqns:
        times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        inner = [bytes_of_values(closed(program)) for program in core.jaxprs_in_params(eqn.params)]
        if inner:
            values += times * sum(v for v, _ in inner)
            gradients += times * sum(g for _, g in inner)
        else:
            atoms = [x for x in (*eqn.outvars, *eqn.invars) if isinstance(x, core.Var) and has_gradient(x.aval)]
            values += sum(map(size, eqn.outvars))
            gradients += sum(map(size, atoms))
    return values, gradients


_HARMLESS = (debugging.DebugEffect, debugging.OrderedDebugEffect, core.InternalMutableArrayEffect)


def repeatable(jaxpr) -> bool:
    """Whether the program may run again: its effects, if any, help debugging or stay within it."""
    return all(isinstance(effect, _HARMLESS) for effect in jaxpr.effects)
