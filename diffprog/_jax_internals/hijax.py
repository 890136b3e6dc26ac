"""Primitives with a derivative of their own (`jax.experimental.hijax`), as the installed JAX knows them."""

from collections.abc import Callable
from functools import partial

import jax
from jax._src import ad_util, core, custom_derivatives, hijax
from jax._src.interpreters import ad

from diffprog._jax_internals import is_symbolic_zero

__all__ = [
    "HiPrimitive",
    "has_transpose",
    "is_given_by_tangents",
    "run_backward",
    "run_forward",
    "run_transpose",
    "tangent_map",
]

HiPrimitive = getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive  # its name until JAX 0.11

# Since JAX 0.12 a primitive may say that its reverse mode is the transpose of its forward mode.
_from_jvp = getattr(hijax, "_vjp_fwd_from_jvp", None)
_from_linearization = getattr(hijax, "_vjp_fwd_from_lin", None)
_linearization_from_jvp = getattr(hijax, "_lin_from_jvp", None)


def run_forward(primitive, needs_grad, args):
    """Run the primitive's own forward rule.

    Returns:
      Its results, which of them have a gradient, and what its backward rule needs.
    """
    args, needs_grad = (jax.tree.unflatten(primitive.in_tree, x) for x in (args, needs_grad))
    rule = partial(primitive.vjp_fwd, needs_grad)
    if getattr(primitive, "opt_remat", False):  # a custom_vjp function whose rule is undone where nothing is kept
        info = core.DebugInfo("diffprog", "custom_vjp", None, None)
        rule = custom_derivatives.optimize_remat_of_custom_vjp_fwd(primitive.expand, info, rule, info)
    results, residuals, *rest = rule(*args)
    active = rest[0] if rest else True
    saved = (residuals, *rest[1:])  # since JAX 0.12 with those residuals whose structure is known
    active = jax.tree.leaves(jax.tree.broadcast(active, results))
    return primitive.out_tree.flatten_up_to(results), active, saved


def run_backward(primitive, needs_grad, saved, cotangents) -> list:
    """Run the primitive's own backward rule: cotangents of its results, None for zero, to those of its arguments."""
    sums = _sums(primitive, needs_grad)
    primitive.vjp_bwd(*saved, _cotangents(primitive, cotangents), *jax.tree.unflatten(primitive.in_tree, sums))
    return _totals(sums)


def has_transpose(primitive) -> bool:
    return isinstance(primitive, HiPrimitive) and type(primitive).transpose is not HiPrimitive.transpose


def run_transpose(primitive, needs_grad, args, cotangents) -> list:
    """Run the primitive's own transpose, where it is linear in the arguments in `needs_grad`."""
    sums = _sums(primitive, needs_grad)
    mixed = [total if want else x for total, x, want in zip(sums, args, needs_grad, strict=True)]
    primitive.transpose(_cotangents(primitive, cotangents), *jax.tree.unflatten(primitive.in_tree, mixed))
    return _totals(sums)


def _sums(primitive, needs_grad):
    kinds = (ad.ValAccum if want else ad.NullAccum for want in needs_grad)
    return [kind(aval.to_ct_aval()) for kind, aval in zip(kinds, primitive.in_avals_flat, strict=True)]


def _totals(sums):
    totals = [total.freeze() if isinstance(total, ad.ValAccum) else None for total in sums]
    return [None if g is None or is_symbolic_zero(g) else g for g in totals]


def _cotangents(primitive, cotangents):
    pairs = zip(cotangents, primitive.out_avals_flat, strict=True)
    full = [ad_util.Zero(aval.to_ct_aval()) if g is None else g for g, aval in pairs]
    return jax.tree.unflatten(primitive.out_tree, full)


def is_given_by_tangents(primitive) -> bool:
    """Whether the primitive leaves reverse mode to the transpose of its forward mode, or has no reverse mode at all."""
    kind = type(primitive)
    alone = kind.vjp_fwd is HiPrimitive.vjp_fwd and kind.jvp is not HiPrimitive.jvp
    return alone or kind.vjp_fwd in (_from_jvp, _from_linearization)


def tangent_map(primitive, needs_grad, args) -> Callable:
    """Make the function: tangents of the arguments in `needs_grad` -> results, their tangents (None for zero)."""
    args = jax.tree.unflatten(primitive.in_tree, args)

    def run(*tangents):
        tangents = iter(tangents)
        full = [
            next(tangents) if want else ad_util.Zero(aval.to_tangent_aval())
            for want, aval in zip(needs_grad, primitive.in_avals_flat, strict=True)
        ]
        full = jax.tree.unflatten(primitive.in_tree, full)
        kind = type(primitive)
        if kind.vjp_fwd in (_from_jvp, HiPrimitive.vjp_fwd) or kind.lin is _linearization_from_jvp:
            results, dots = primitive.jvp(args, full)
        else:
            results, residuals, *rest = primitive.lin(jax.tree.unflatten(primitive.in_tree, needs_grad), *args)
            dots = primitive.linearized(residuals, *rest[1:], *full)
        dots = primitive.out_tree.flatten_up_to(dots)
        return primitive.out_tree.flatten_up_to(results), [None if is_symbolic_zero(t) else t for t in dots]

    return run
