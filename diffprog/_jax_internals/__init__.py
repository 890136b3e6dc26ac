"""Everything that diffprog takes from inside JAX, in one place.

JAX's trace machinery has no compatibility promise and changes from month to month. Every import from
`jax.extend`, `jax.core` or `jax._src` stands in this package, together with what differs between the oldest
JAX that diffprog supports (0.10.2) and the newest; the rest of the package reads one interface. What nearly every
module needs is named here; what belongs to one subject is imported from its module.
"""

from jax import typeof
from jax._src.config import trace_context
from jax._src.util import weakref_lru_cache
from jax.extend.core import Primitive, jaxpr_as_fun, set_current_trace, take_current_trace

from diffprog._jax_internals.avals import (
    PERTURBED,
    SymbolicZero,
    Trace,
    Tracer,
    add,
    any_tangent,
    as_array,
    canonical,
    concrete,
    cotangent_dtype,
    float0,
    has_gradient,
    has_zero,
    instantiate,
    is_array_type,
    is_differentiable,
    is_reference,
    is_symbolic_zero,
    same_type,
    zero_tangent,
    zeros,
)
from diffprog._jax_internals.binding import (
    RULES_RETURN_LOGS,
    asks_for_layout,
    bind_cond,
    bind_jit,
    bind_scan,
    bind_unchanged,
    scan_sizes,
    select_and_gather_add,
    select_and_scatter_add,
)
from diffprog._jax_internals.jaxprs import (
    closed,
    eval_jaxpr,
    single_operation,
    trace_to_closed_jaxpr,
    trace_to_jaxpr,
    without_forwarded,
)
from diffprog._jax_internals.tracebacks import hides_engine, user_line

__all__ = [
    "PERTURBED",
    "RULES_RETURN_LOGS",
    "Primitive",
    "SymbolicZero",
    "Trace",
    "Tracer",
    "add",
    "any_tangent",
    "as_array",
    "asks_for_layout",
    "bind_cond",
    "bind_jit",
    "bind_scan",
    "bind_unchanged",
    "canonical",
    "closed",
    "concrete",
    "cotangent_dtype",
    "eval_jaxpr",
    "float0",
    "has_gradient",
    "has_zero",
    "hides_engine",
    "instantiate",
    "is_array_type",
    "is_differentiable",
    "is_reference",
    "is_symbolic_zero",
    "jaxpr_as_fun",
    "same_type",
    "scan_sizes",
    "select_and_gather_add",
    "select_and_scatter_add",
    "set_current_trace",
    "single_operation",
    "take_current_trace",
    "trace_context",
    "trace_to_closed_jaxpr",
    "trace_to_jaxpr",
    "typeof",
    "user_line",
    "weakref_lru_cache",
    "without_forwarded",
    "zero_tangent",
    "zeros",
]
