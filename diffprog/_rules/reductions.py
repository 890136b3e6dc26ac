"""Reductions and cumulative operations."""

import math
from functools import partial

import numpy as np
from jax import lax, typeof

from diffprog._jax_internals import jaxpr_as_fun
from diffprog._jax_internals.devices import placement
from diffprog._jax_internals.sizes import are_known
from diffprog._rules.via_equivalent_program import on_arrays, via_program
from diffprog._tracer.rules import linear, no_derivative, rule
from diffprog._tracer.vjp import vjp

no_derivative("argmax", "argmin", "reduce_and", "reduce_or", "reduce_xor")


def _spread(y, like, axes):
    """Repeat `y`, a reduction of an array of this type over these axes, to its shape."""
    remaining = [i for i in range(like.ndim) if i not in axes]
    return lax.broadcast_in_dim(y, like.shape, remaining, out_sharding=placement(like))


linear("reduce_sum", lambda g, x, axes, **_: _spread(g, x, axes))


@rule("reduce_max", "reduce_min")
def _reduce_max(primitive, needs_grad, args, params):
    """Share the cotangent equally among the elements that have the extreme value."""
    (x,), axes = args, params["axes"]
    like = typeof(x)
    y = primitive.bind(x, **params)

    def pull(g):
        chosen = lax.convert_element_type(lax.eq(x, _spread(y, like, axes)), g.dtype)
        share = lax.div(g, lax.reduce_sum(chosen, axes))
        return (lax.mul(_spread(share, like, axes), chosen),)

    return y, pull


@rule("reduce_prod")
def _reduce_prod(primitive, needs_grad, args, params):
    """Multiply by the product of all other elements: of those before it and those after it.

    No division by the element, so zeros are no special case.
    """
    (x,), axes = args, params["axes"]

    def pull(g):
        remaining = [i for i in range(x.ndim) if i not in axes]
        order = [*remaining, *axes]
        moved = lax.transpose(x, order)
        rows = lax.reshape(moved, (*moved.shape[: len(remaining)], math.prod(x.shape[i] for i in axes)))
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
def _reduce(primitive, needs_grad, args, params):
    """Differentiate a reduction with any associative function, through the tree of its applications."""
    num_operands = len(args) // 2
    if any(needs_grad[num_operands:]):
        raise NotImplementedError(
            "lax.reduce has no derivative with respect to its initial values: combine them with the result instead"
        )
    combine, axes = on_arrays(jaxpr_as_fun(params["jaxpr"])), params["dimensions"]

    def tree(*operands):
        xs, starts = operands[:num_operands], operands[num_operands:]
        remaining = [i for i in range(xs[0].ndim) if i not in axes]
        kept_shape = [xs[0].shape[i] for i in remaining]
        size = math.prod(xs[0].shape[i] for i in axes)
        rows = [lax.reshape(lax.transpose(x, [*axes, *remaining]), (size, *kept_shape)) for x in xs]
        initial = [lax.full(kept_shape, start) for start in starts]
        if not are_known([size]):
            return lax.scan(lambda total, row: (combine(*total, *row), None), initial, rows)[0]
        if size == 0:
            return initial
        while size > 1:
            half = (size + 1) // 2
            fill = [(0, 2 * half - size, 0)] + [(0, 0, 0)] * len(remaining)
            left = [lax.slice_in_dim(r, 0, half) for r in rows]
            right = [lax.pad(lax.slice_in_dim(r, half, size), s, fill) for r, s in zip(rows, starts, strict=True)]
            rows, size = combine(*left, *right), half
        return [lax.squeeze(r, [0]) for r in rows]

    return via_program(primitive, needs_grad, args, params, tree)


# ---------------------------------------------------------------- cumulative

linear("cumsum", lambda g, x, axis, reverse: lax.cumsum(g, axis=axis, reverse=not reverse))


def _through_tree(combine):
    """Run a prefix operation as the tree of a parallel one, whose derivative is exact also at zeros and ties."""

    def apply(primitive, needs_grad, args, params):
        known = are_known([args[0].shape[params["axis"]]])
        return vjp(partial(lax.associative_scan if known else _one_by_one, combine, **params), *args)

    return apply


def _one_by_one(combine, x, axis, reverse):
    """Run a prefix operation along an axis whose size is a symbol."""
    order = [axis, *(d for d in range(x.ndim) if d != axis)]
    rows = lax.transpose(x, order)
    first = lax.index_in_dim(rows, -1 if reverse else 0, keepdims=False)

    def step(state, row):
        total, begun = state
        total = lax.select(begun, combine(total, row), row)
        return (total, lax.full_like(begun, True)), total

    return lax.transpose(lax.scan(step, (first, np.zeros((), bool)), rows, reverse=reverse)[1], np.argsort(order))


def _logaddexp(x, y):
    top = lax.stop_gradient(lax.max(x, y))
    safe = lax.select(lax.is_finite(top), top, lax.full_like(top, 0))
    total = lax.add(lax.exp(lax.sub(x, safe)), lax.exp(lax.sub(y, safe)))
    return lax.add(safe, lax.log(total))


rule("cumprod")(_through_tree(lax.mul))
rule("cummax")(_through_tree(lax.max))
rule("cummin")(_through_tree(lax.min))
rule("cumlogsumexp")(_through_tree(_logaddexp))
