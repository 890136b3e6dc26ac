"""Reductions and cumulative operations."""

from functools import partial

import jax
import numpy as np
from jax import lax

from diffprog.rules.derived import derived
from diffprog.rules.table import linear, no_derivative, rule
from diffprog.tracer.jax_internals import jaxpr_as_fun

no_derivative("argmax", "argmin", "reduce_and", "reduce_or", "reduce_xor")


def _spread(y, shape, axes):
    """`y`, a reduction of an array of this shape over these axes, repeated to that shape."""
    return lax.broadcast_in_dim(y, shape, [i for i in range(len(shape)) if i not in axes])


linear("reduce_sum", lambda g, x, axes, **_: _spread(g, x.shape, axes))


@rule("reduce_max", "reduce_min")
def _reduce_max(primitive, wanted, args, params):
    """Elements that share the extreme value share its cotangent equally."""
    (x,), axes = args, params["axes"]
    y = primitive.bind(x, **params)

    def pull(g):
        chosen = lax.convert_element_type(lax.eq(x, _spread(y, x.shape, axes)), g.dtype)
        share = lax.div(g, lax.reduce_sum(chosen, axes))
        return (lax.mul(_spread(share, x.shape, axes), chosen),)

    return y, pull


@rule("reduce_prod")
def _reduce_prod(primitive, wanted, args, params):
    """The cotangent of an element is the product of all others: of those before it and those after it.

    No division by the element, so zeros are no special case.
    """
    (x,), axes = args, params["axes"]

    def pull(g):
        kept = [i for i in range(x.ndim) if i not in axes]
        order = [*kept, *axes]
        moved = lax.transpose(x, order)
        rows = lax.reshape(moved, (*moved.shape[: len(kept)], int(np.prod([x.shape[i] for i in axes], dtype=int))))
        last = rows.ndim - 1
        if rows.shape[last] == 0:
            return (lax.full_like(x, 0),)
        shift = lambda v, low, high: lax.pad(v, np.ones((), v.dtype), [(0, 0, 0)] * last + [(low, high, 0)])
        before = lax.cumprod(shift(rows, 1, -1), axis=last)
        after = lax.cumprod(shift(rows, -1, 1), axis=last, reverse=True)
        others = lax.mul(before, after)
        pulled = lax.mul(others, lax.broadcast_in_dim(g, rows.shape, range(last)))
        return (lax.transpose(lax.reshape(pulled, moved.shape), np.argsort(order)),)

    return primitive.bind(x, **params), pull


@rule("reduce")
def _reduce(primitive, wanted, args, params):
    """A reduction with any associative function: through the tree of its applications."""
    count = len(args) // 2
    if any(wanted[count:]):
        raise NotImplementedError(
            "lax.reduce has no derivative with respect to its initial values: combine them with the result instead"
        )
    reducer, axes, starts = jaxpr_as_fun(params["jaxpr"]), params["dimensions"], args[count:]

    def tree(*xs):
        shape = xs[0].shape
        kept = [i for i in range(len(shape)) if i not in axes]
        size = int(np.prod([shape[i] for i in axes], dtype=int))
        rows = [lax.reshape(lax.transpose(x, [*axes, *kept]), (size, *(shape[i] for i in kept))) for x in xs]
        combine = reducer
        for _ in range(len(kept) + 1):
            combine = jax.vmap(combine)
        while rows[0].shape[0] > 1:
            half = (rows[0].shape[0] + 1) // 2
            left = [lax.slice_in_dim(r, 0, half) for r in rows]
            right = [
                lax.pad(lax.slice_in_dim(r, half, None), start, [(0, 2 * half - r.shape[0], 0)] + [(0, 0, 0)] * len(kept))
                for r, start in zip(rows, starts, strict=True)
            ]
            rows = combine(*left, *right)
        if rows[0].shape[0] == 0:
            return [lax.broadcast(start, r.shape[1:]) for r, start in zip(rows, starts, strict=True)]
        return [lax.squeeze(r, [0]) for r in rows]

    return derived(primitive, wanted, args, params, lambda *args: tree(*args[:count]))


# ---------------------------------------------------------------- cumulative

linear("cumsum", lambda g, x, axis, reverse: lax.cumsum(g, axis=axis, reverse=not reverse))


def _through_tree(combine):
    """The derivative through the logarithmic tree of a parallel prefix computation: exact also at zeros and ties."""

    def apply(primitive, wanted, args, params):
        program = partial(lax.associative_scan, combine, axis=params["axis"], reverse=params["reverse"])
        return derived(primitive, wanted, args, params, program)

    return apply


def _logaddexp(x, y):
    top = lax.stop_gradient(lax.max(x, y))
    safe = lax.select(lax.is_finite(top), top, lax.full_like(top, 0))
    total = lax.add(lax.exp(lax.sub(x, safe)), lax.exp(lax.sub(y, safe)))
    return lax.add(safe, lax.log(total))


rule("cumprod")(_through_tree(lax.mul))
rule("cummax")(_through_tree(lax.max))
rule("cummin")(_through_tree(lax.min))
rule("cumlogsumexp")(_through_tree(_logaddexp))
