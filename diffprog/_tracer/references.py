"""Mutable arrays (`jax.new_ref`) that a differentiated function makes for itself.

A reference is a name for the current version of a value. Each operation on references is replaced by the pure one that
takes old versions to results and new versions, and that is recorded like any other. So references need no derivative
of their own, and none is left in what is recorded. References from outside stay what they are: reading them gives
constants, and what depends on the differentiated arguments cannot be written to them.
"""

import jax
from jax import lax

from diffprog._jax_internals import Tracer, closed, jaxpr_as_fun, set_current_trace, trace_to_jaxpr, typeof, user_line
from diffprog._jax_internals.jaxprs import jaxprs_in
from diffprog._jax_internals.references import (
    gives_references_to_rules,
    is_perturbed,
    pure_operation,
    reference_type,
    writes,
)
from diffprog._tracer.errors import MissingDerivative

MAKES_ONE = ("new_ref", "empty_ref")
_CALLS = ("jit", "closed_call", "core_closed_call", "eval_jaxpr", "remat2")
PRIMITIVES = (*MAKES_ONE, "get", "swap", "addupdate", "freeze", "free_ref")


class Reference(Tracer):
    """A reference of a tape."""

    __slots__ = ("version",)

    def __init__(self, tape, aval, version):
        super().__init__(tape, aval)
        self.version = version

    def full_lower(self):
        return self

    def get_referent(self):
        return self

    def _short_repr(self):
        return f"Reference<{self.version}>"


def make(tape, primitive, args, params) -> Reference:
    """Run `jax.new_ref` or `jax.empty_ref`."""
    aval = reference_type(primitive, [typeof(x) for x in args], params)
    inner = aval.inner_aval
    with set_current_trace(tape):
        if not args:
            version = lax.full(inner.shape, 0, inner.dtype)
        elif typeof(args[0]).weak_type:
            version = lax.convert_element_type(args[0], inner.dtype)  # no longer weakly typed
        else:
            (version,) = args
    tape.has_references = True
    return Reference(tape, aval, version)


def operate(tape, primitive, args, params, is_ref):
    """Run an operation on references of this tape; `is_ref` says which of its arguments these are."""
    if primitive.name == "freeze":
        return args[0].version
    if primitive.name == "free_ref":
        return []
    programs = list(map(closed, jaxprs_in(params)))
    if any(map(gives_references_to_rules, programs)):  # made pure, it would lose these rules
        if primitive.name not in _CALLS:
            raise MissingDerivative(
                f"within a '{primitive.name}', a mutable array that the differentiated function made is passed "
                "to a function with a custom rule,",
                user_line(),
                "pass its value, ref[...]",
            )
        with set_current_trace(tape):
            return jaxpr_as_fun(programs[0])(*args)
    program = pure_operation(primitive, [typeof(x) for x in args], params, is_ref)
    values = [x.version if mine else x for x, mine in zip(args, is_ref, strict=True)]
    with set_current_trace(tape):
        outputs = jaxpr_as_fun(program)(*values)
    references = [x for x, mine in zip(args, is_ref, strict=True) if mine]
    num_results = len(outputs) - len(references)
    for reference, version in zip(references, outputs[num_results:], strict=True):
        reference.version = version
    return outputs[:num_results] if primitive.multiple_results else outputs[0]


def operate_outside(primitive, args, params, own: dict[int, Reference]) -> list:
    """Run an operation that has no part in a gradient in the trace around, on references made there.

    Args:
      primitive: of the operation.
      args: its arguments.
      params: its parameters.
      own: those of its arguments that are references of a tape, by their position.
    """
    outside = {i: jax.new_ref(x.version) for i, x in own.items()}
    bind = lambda *args: primitive.bind(*args, **params)
    values = [outside.get(i, x) for i, x in enumerate(args)]
    if any(
        isinstance(x, Reference) or is_perturbed(x) for x in outside.values()
    ):  # its rule is applied at once, and not to a staged program
        outputs, written = bind(*values), True
    else:
        program, constants = trace_to_jaxpr(bind, [typeof(x) for x in args], primitive.name)
        outputs, written = jaxpr_as_fun(program)(*constants, *values), writes(program)
    if written:
        for i, x in own.items():
            x.version = jax.freeze(outside[i])
    return outputs
