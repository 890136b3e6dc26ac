"""Mutable arrays (`jax.new_ref`) that a differentiated function makes for itself.

A reference is a name for the current version of a value. Each operation on references is replaced by the pure one that
takes old versions to results and new versions, and that is recorded like any other. So references need no derivative
of their own, and none is left in what is recorded. References from outside stay what they are: reading them gives
constants, and what depends on the differentiated arguments cannot be written to them.
"""

from jax import lax

from diffprog._jax_internals import Tracer, jaxpr_as_fun, set_current_trace, typeof
from diffprog._jax_internals.references import pure_operation, reference_type

MAKES_ONE = ("new_ref", "empty_ref")
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
    program = pure_operation(primitive, [typeof(x) for x in args], params, is_ref)
    values = [x.version if mine else x for x, mine in zip(args, is_ref, strict=True)]
    with set_current_trace(tape):
        outputs = jaxpr_as_fun(program)(*values)
    references = [x for x, mine in zip(args, is_ref, strict=True) if mine]
    num_results = len(outputs) - len(references)
    for reference, version in zip(references, outputs[num_results:], strict=True):
        reference.version = version
    return outputs[:num_results] if primitive.multiple_results else outputs[0]
