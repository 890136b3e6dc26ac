"""Mutable arrays (`jax.new_ref`), as the installed JAX knows them."""

from functools import lru_cache

import jax
from jax import lax
from jax._src.indexing import dslice
from jax._src.interpreters import ad
from jax._src.state import discharge
from jax._src.state.types import AbstractRef, AccumEffect, WriteEffect
from jax._src.util import weakref_lru_cache

from diffprog._jax_internals import closed, trace_to_jaxpr
from diffprog._jax_internals.jaxprs import jaxprs_in

__all__ = [
    "add_to_window",
    "content_type",
    "discharged",
    "gives_references_to_rules",
    "is_perturbed",
    "pure_operation",
    "reference_type",
    "references_of",
    "writes",
]


def content_type(aval):
    """Get the type of what a mutable array of this type holds; of another type that type."""
    return getattr(aval, "inner_aval", aval)


def add_to_window(reference, part, starts):
    """Add an array to the part of a mutable array at `starts`, clamped as in `lax.dynamic_slice`."""
    window = []
    for start, size, whole in zip(starts, part.shape, reference.shape, strict=True):
        window.append(dslice(start if isinstance(start, int) else lax.clamp(0, start, whole - size), size))
    jax.ref.addupdate(reference, tuple(window), part)


def references_of(program) -> list:
    """List the arguments of a jaxpr or an equation that are references."""
    return [v for v in program.invars if isinstance(v.aval, AbstractRef)]


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


def is_perturbed(reference) -> bool:
    """Whether JAX is computing tangents of what is in a mutable array."""
    return isinstance(reference, ad.JVPTracer)


def writes(jaxpr) -> bool:
    """Whether a program writes to a mutable array."""
    return any(isinstance(effect, (WriteEffect, AccumEffect)) for effect in jaxpr.effects)


@weakref_lru_cache
def gives_references_to_rules(jaxpr) -> bool:
    """Whether a closed jaxpr passes a mutable array to a function with a custom rule for reverse mode."""
    return any(
        (eqn.primitive.name == "custom_vjp_call" and any(isinstance(x.aval, AbstractRef) for x in eqn.invars))
        or any(map(gives_references_to_rules, map(closed, jaxprs_in(eqn.params))))
        for eqn in jaxpr.jaxpr.eqns
    )


def discharged(jaxpr):
    """Turn a jaxpr whose inputs are references into a function, closed: first values -> last values."""
    return discharge.discharge_state(closed(jaxpr))
