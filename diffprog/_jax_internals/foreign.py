"""The derivatives that the author of a primitive registered with JAX, and which primitives are linear."""

from collections.abc import Sequence

from jax import typeof
from jax._src import ad_util, hijax
from jax._src.interpreters import ad

from diffprog._jax_internals import is_symbolic_zero

# Base classes of primitives register methods that have to be overridden.
_unwritten = tuple(
    method
    for base in (getattr(hijax, "HiPrimitive", None),)
    if base is not None
    for method in (base.jvp, base.transpose)
)


def _registered(table: dict, primitive):
    rule = table.get(primitive)
    return None if getattr(rule, "__func__", None) in _unwritten else rule


def has_jvp(primitive) -> bool:
    """Whether a rule for tangents is registered: a JVP, or a linearization alone."""
    return _registered(ad.primitive_jvps, primitive) is not None or primitive in ad.primitive_linearizations


def run_jvp(primitive, values: Sequence, tangents: Sequence, params: dict) -> tuple[list, list]:
    """Run the registered JVP of a primitive, or its linearization where there is no JVP.

    Args:
      primitive: the primitive.
      values: its arguments.
      tangents: their tangents, None for zero.
      params: its parameters.

    Returns:
      The list of its results, and that of their tangents, None for zero.
    """
    full = [
        ad_util.Zero(typeof(x).to_tangent_aval()) if t is None else t for x, t in zip(values, tangents, strict=True)
    ]
    if _registered(ad.primitive_jvps, primitive) is not None:
        results, dots = ad.primitive_jvps[primitive](values, full, **params)
    else:
        linearize, nonzero = ad.primitive_linearizations[primitive], [t is not None for t in tangents]
        # since JAX 0.12 with those residuals whose structure is known
        results, _, residuals, *structured, linearized = linearize(True, nonzero, *values, **params)
        dots = linearized(residuals, *structured, *full)
    if not primitive.multiple_results:
        results, dots = [results], [dots]
    return list(results), [None if is_symbolic_zero(t) else t for t in dots]


def has_transpose(primitive) -> bool:
    """Whether the primitive is linear in some of its arguments: its author says so by a transpose."""
    return primitive in ad.fancy_transposes or _registered(ad.primitive_transposes, primitive) is not None


def run_transpose(
    primitive, needs_grad: Sequence[bool], values: Sequence, params: dict, cotangents: Sequence, avals: Sequence
) -> list:
    """Run the registered transpose of a primitive.

    Args:
      primitive: the primitive.
      needs_grad: the arguments in which it is linear, and whose cotangents are wanted.
      values: its arguments; of those in `needs_grad` only the types count.
      params: its parameters.
      cotangents: of its results, None for zero.
      avals: types of its results.

    Returns:
      One cotangent per argument, None for zero.
    """
    full = [ad_util.Zero(aval.to_ct_aval()) if g is None else g for g, aval in zip(cotangents, avals, strict=True)]
    incoming = full if primitive.multiple_results else full[0]
    fancy = ad.fancy_transposes.get(primitive)
    kind = ad.UndefinedPrimal if fancy is None else ad.ValAccum
    mixed = [kind(typeof(x).to_ct_aval()) if want else x for x, want in zip(values, needs_grad, strict=True)]
    if fancy is None:
        sent = ad.primitive_transposes[primitive](incoming, *mixed, **params)
        if sent is ad_util.Zero:
            return [None] * len(mixed)
    else:
        fancy(incoming, *mixed, **params)
        sent = [x.freeze() if isinstance(x, ad.ValAccum) else None for x in mixed]
    return [None if g is None or is_symbolic_zero(g) else g for g in sent]


def result_types(primitive, values: Sequence, params: dict) -> list:
    """Find the types of a primitive's results without running it."""
    avals, _ = primitive.abstract_eval(*map(typeof, values), **params)
    return list(avals) if primitive.multiple_results else [avals]
