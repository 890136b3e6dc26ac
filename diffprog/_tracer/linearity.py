"""Which operations are linear: a tangent map may apply no others to its tangents.

An operation is linear where its author registered a transpose for it or its rule says so, in those arguments that the
tables below do not rule out. A call is linear where the operations of its body are.
"""

from collections.abc import Sequence

from diffprog._jax_internals import closed, scan_sizes, weakref_lru_cache
from diffprog._jax_internals.foreign import has_transpose
from diffprog._jax_internals.jaxprs import jaxprs_in
from diffprog._tracer.rules import linear_by_rule, rules

Mask = tuple[bool, ...]

# Products are linear in one factor while the others are constant.
_PRODUCTS = frozenset({"mul", "dot_general", "conv_general_dilated", "ragged_dot_general"})

# Operations that are linear in some arguments alone, by position; the others may not depend on a tangent.
_LINEAR_IN = {
    "div": {0},
    "scatter_mul": {0},
    "select_and_gather_add": {0},
    "select_and_scatter_add": {0},
    "tridiagonal_solve": {3},
    "triangular_solve": {1},
}

# Operations whose parameters are programs.
RUN_PROGRAMS = frozenset(
    "jit call_apart eval_jaxpr remat2 scan while cond custom_linear_solve custom_vmap_call composite remat_opt "
    "compute_on fused_call xla_metadata_call linear_call run_state shard_map".split()
)


def first_nonlinear(primitive, params: dict, on_tangents: Mask) -> str | None:
    """Find the operation by which a primitive is not linear.

    Args:
      primitive: the primitive.
      params: its parameters.
      on_tangents: which of its arguments depend on a tangent; at least one does.

    Returns:
      The name of the first operation that is not linear in these arguments together; None if all are.
    """
    return _of_operation(primitive, params, on_tangents)[0]


def is_linear_program(jaxpr, on_tangents: Mask) -> bool:
    """Whether a closed jaxpr is linear in these of its arguments together."""
    return _of_program(jaxpr, on_tangents)[0] is None


def _of_operation(primitive, params: dict, flags: Mask) -> tuple[str | None, Mask | None]:
    """Find the first operation that is not linear, and which results depend on a tangent (None for all)."""
    name = primitive.name
    if name not in rules:
        return (None if has_transpose(primitive) else name), None
    if name == "scan":
        return _of_loop(closed(params["jaxpr"]), flags, *scan_sizes(params))
    if name == "while":
        return _of_while(params, flags)
    if name == "cond":
        return ("cond", None) if flags[0] else _of_branches(params["branches"], flags[1:])
    if name == "custom_linear_solve":
        num_consts = sum(params["const_lengths"])
        return (name if any(flags[:num_consts]) else None), None
    if name in RUN_PROGRAMS:
        bodies = list(jaxprs_in(params))
        if len(bodies) == 1 and len(bodies[0].in_avals) == len(flags):
            return _of_program(bodies[0], flags)
    positions = {i for i, flag in enumerate(flags) if flag}
    apart = name in _PRODUCTS and len(positions) > 1
    declared = has_transpose(primitive) or name in linear_by_rule
    linear = declared and not apart and positions <= _LINEAR_IN.get(name, positions)
    return (None if linear else name), None


@weakref_lru_cache
def _of_program(jaxpr, flags: Mask) -> tuple[str | None, Mask]:
    body = jaxpr.jaxpr
    dependent = {v for v, flag in zip(body.invars, flags, strict=True) if flag}
    depends = lambda v: not hasattr(v, "val") and v in dependent  # literals have a value
    culprit = None
    for eqn in body.eqns:
        on_tangents = tuple(map(depends, eqn.invars))
        if any(on_tangents):
            name, results = _of_operation(eqn.primitive, eqn.params, on_tangents)
            culprit = culprit or name
            pairs = zip(eqn.outvars, results or [True] * len(eqn.outvars), strict=True)
            dependent.update(v for v, flag in pairs if flag)
    return culprit, tuple(map(depends, body.outvars))


def _of_branches(branches: Sequence, flags: Mask) -> tuple[str | None, Mask]:
    findings = [_of_program(closed(branch), flags) for branch in branches]
    culprit = next((name for name, _ in findings if name), None)
    return culprit, tuple(map(any, zip(*(results for _, results in findings), strict=True)))


def _of_loop(jaxpr, flags: Mask, num_consts: int, num_carry: int) -> tuple[str | None, Mask]:
    """Follow the carry until no more of it comes to depend on a tangent."""
    while True:
        culprit, results = _of_program(jaxpr, flags)
        carry = flags[num_consts : num_consts + num_carry]
        after = tuple(a or b for a, b in zip(carry, results, strict=False))
        if after == carry:
            return culprit, (*after, *results[num_carry:])
        flags = (*flags[:num_consts], *after, *flags[num_consts + num_carry :])


def _of_while(params: dict, flags: Mask) -> tuple[str | None, Mask]:
    """Take a loop for linear whose number of iterations depends on no tangent."""
    num_in_cond, num_in_body = params["cond_nconsts"], params["body_nconsts"]
    num_carry = len(flags) - num_in_cond - num_in_body
    culprit, carry = _of_loop(closed(params["body_jaxpr"]), flags[num_in_cond:], num_in_body, num_carry)
    by_condition, decides = _of_program(closed(params["cond_jaxpr"]), (*flags[:num_in_cond], *carry))
    return (culprit or by_condition or ("while" if any(decides) else None)), carry
