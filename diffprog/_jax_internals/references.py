"""Mutable arrays (`jax.new_ref`), as the installed JAX knows them."""

from functools import lru_cache

from jax._src.state import discharge

from diffprog._jax_internals import closed, trace_to_jaxpr

__all__ = ["discharged", "pure_operation", "reference_type"]


def reference_type(primitive, avals, params):
    """Get the type of the reference that `new_ref` or `empty_ref` would make."""
    aval, _ = primitive.abstract_eval(*avals, **params)
    return aval


def pure_operation(primitive, avals, params, is_ref: tuple[bool, ...]):
    """Turn an operation on references into a function of values.

    Args:
      primitive: of the operation.
      avals: types of its arguments.
      params: its parameters.
      is_ref: which arguments are references that become values; the others stay as they are.

    Returns:
      Closed jaxpr, arguments with values in the place of references -> results + new values of these references.
    """
    if primitive.name in ("get", "swap", "addupdate"):
        return _cached_pure_operation(primitive, tuple(avals), tuple(params.items()), is_ref)
    return _pure_operation(primitive, avals, params, is_ref)


def _pure_operation(primitive, avals, params, is_ref):
    def operation(*args):
        results = primitive.bind(*args, **params)
        return results if primitive.multiple_results else [results]

    program, _ = trace_to_jaxpr(operation, avals, primitive.name)
    return discharge.discharge_state(program, should_discharge=is_ref, lower=False)


@lru_cache(maxsize=1024)
def _cached_pure_operation(primitive, avals, params, is_ref):
    return _pure_operation(primitive, avals, dict(params), is_ref)


def discharged(jaxpr):
    """Turn a jaxpr whose inputs are references into a function, closed: first values -> last values."""
    return discharge.discharge_state(closed(jaxpr))
