"""Operations that move elements and change none: all linear, each transposed by moving them back."""

from itertools import accumulate

import numpy as np
from jax import lax, typeof

from diffprog._jax_internals.devices import placement, with_partitions
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.rules import linear, rule


def _reshape(g, x, dimensions, **_):
    """With `dimensions`, which vmap makes, x is transposed before it is reshaped."""
    if dimensions is None:
        return lax.reshape(g, x.shape, out_sharding=placement(x))
    g = lax.reshape(g, np.take(x.shape, dimensions), out_sharding=placement(x, dimensions))
    return lax.transpose(g, np.argsort(dimensions))


linear("reshape", _reshape)
linear("squeeze", lambda g, x, **_: lax.reshape(g, x.shape, out_sharding=placement(x)))
linear("rev", lambda g, x, dimensions: lax.rev(g, dimensions))
linear("transpose", lambda g, x, permutation: lax.transpose(g, np.argsort(permutation)))


@rule("broadcast_in_dim")
def _broadcast_in_dim(primitive, needs_grad, args, params):
    """Sum over the new dimensions and over those stretched from 1."""
    x, *dynamic_shape = args
    y = primitive.bind(x, *dynamic_shape, **params)
    like, source_dims = typeof(x), params["broadcast_dimensions"]
    stretched = [i for i, (d, size) in enumerate(zip(source_dims, like.shape, strict=True)) if size == 1 != y.shape[d]]
    steady = [d for i, d in enumerate(source_dims) if i not in stretched]
    summed, home = tuple(d for d in range(y.ndim) if d not in steady), placement(like)

    def sum_in_place(g):
        if home is None:
            return lax.reshape(lax.reduce_sum(g, summed) if summed else g, like.shape)
        partitions = [p for i, p in enumerate(home.spec.partitions) if i not in stretched]
        return lax.expand_dims(lax.reduce_sum(g, summed, out_sharding=with_partitions(home, partitions)), stretched)

    def pull(g):
        return sum_in_place(g), *[None] * len(dynamic_shape)

    return y, pull


@rule("tile")
def _tile(primitive, needs_grad, args, params):
    (x,) = args
    reps, shape, home = params["reps"], np.shape(x), placement(typeof(x))
    split = home and with_partitions(home, [p for own in home.spec.partitions for p in (None, own)])

    def pull(g):
        g = lax.reshape(g, [n for pair in zip(reps, shape, strict=True) for n in pair], out_sharding=split)
        return (lax.reduce_sum(g, range(0, 2 * len(shape), 2)),)

    return primitive.bind(x, **params), pull


@rule("concatenate")
def _concatenate(primitive, needs_grad, args, params):
    axis = params["dimension"]
    sizes = [np.shape(x)[axis] for x in args]
    starts = accumulate(sizes[:-1], initial=0)
    places = [(start, start + size) for start, size in zip(starts, sizes, strict=True)]

    def pull(g):
        cut = lambda place: lax.slice_in_dim(g, *place, axis=axis)
        return [cut(place) if want else None for place, want in zip(places, needs_grad, strict=True)]

    return primitive.bind(*args, **params), pull


@rule("stack")
def _stack(primitive, needs_grad, args, params):
    axis = params["axis"]

    def pull(g):
        return [lax.index_in_dim(g, i, axis, keepdims=False) if want else None for i, want in enumerate(needs_grad)]

    return primitive.bind(*args, **params), pull


@rule("unstack")
def _unstack(primitive, needs_grad, args, params):
    results = primitive.bind(*args, **params)
    avals = [typeof(x) for x in results]

    def pull(cotangents):
        parts = [lax.expand_dims(g, [params["axis"]]) for g in fill_zeros(cotangents, avals)]
        return (lax.concatenate(parts, params["axis"]),)

    return results, [True] * len(results), pull


@rule("split")
def _split(primitive, needs_grad, args, params):
    results = primitive.bind(*args, **params)
    avals = [typeof(x) for x in results]
    return (
        results,
        [True] * len(results),
        lambda cotangents: (lax.concatenate(fill_zeros(cotangents, avals), params["axis"]),),
    )


@rule("pad")
def _pad(primitive, needs_grad, args, params):
    """Cut the operand's cotangent out again; the padding value's is the sum of the rest."""
    x, value = args
    config = params["padding_config"]
    low, high, interior = zip(*config, strict=True) if config else ((), (), ())
    shape = np.shape(x)

    def cut(g):
        unpadded = lax.pad(g, np.zeros((), g.dtype), [(-a, -b, 0) for a, b in zip(low, high, strict=True)])
        steps = [n + 1 for n in interior]
        return lax.slice(unpadded, [0] * g.ndim, unpadded.shape, steps) if 0 not in shape else _empty(g)

    def _empty(g):
        return lax.full(shape, 0, g.dtype)

    def pull(g):
        inner = cut(g)
        outer = None
        if needs_grad[1]:
            everything = tuple(range(g.ndim))
            outer = lax.sub(lax.reduce_sum(g, everything), lax.reduce_sum(inner, everything))
        return inner, outer

    return primitive.bind(x, value, **params), pull
