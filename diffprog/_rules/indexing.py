"""Slices, gathers, scatters, sorting.

What is read from a place is sent back to that place, as a part of the cotangent of the whole.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import lax, typeof

from diffprog._jax_internals import eval_jaxpr, instantiate
from diffprog._jax_internals.devices import placement
from diffprog._jax_internals.sizes import extent
from diffprog._rules.via_equivalent_program import on_arrays, pullback_of
from diffprog._tracer.cotangents import Scattered, Window
from diffprog._tracer.rules import rule

# ---------------------------------------------------------------- slices


@rule("slice")
def _slice(primitive, needs_grad, args, params):
    (x,), aval = args, typeof(args[0])
    starts, strides = params["start_indices"], params["strides"]
    y = primitive.bind(x, **params)

    if strides is not None and any(step != 1 for step in strides):

        def pull(g):
            ends = [
                size - start - reach
                for size, start, reach in zip(aval.shape, starts, extent(g.shape, strides), strict=True)
            ]
            holes = [0 if n == 0 else step - 1 for n, step in zip(g.shape, strides, strict=True)]
            return (lax.pad(g, np.zeros((), g.dtype), list(zip(starts, ends, holes, strict=True))),)

        return y, pull

    return y, lambda g: (Window(aval, g, starts),)


@rule("dynamic_slice")
def _dynamic_slice(primitive, needs_grad, args, params):
    x, *starts = args
    aval = typeof(x)
    starts = [np.int32(start) if type(start) is int else start for start in starts]  # an int would not be clamped

    return primitive.bind(x, *starts, **params), lambda g: (Window(aval, g, tuple(starts)), *[None] * len(starts))


@rule("dynamic_update_slice")
def _dynamic_update_slice(primitive, needs_grad, args, params):
    x, update, *starts = args
    like = typeof(update)

    def pull(g):
        to_x = primitive.bind(g, instantiate(like), *starts, **params) if needs_grad[0] else None
        to_update = lax.dynamic_slice_p.bind(g, *starts, slice_sizes=like.shape) if needs_grad[1] else None
        return (to_x, to_update, *[None] * len(starts))

    return primitive.bind(x, update, *starts, **params), pull


# ---------------------------------------------------------------- gather


@dataclass(frozen=True)
class _ScatterAdd:
    """Adds each part to the whole where a gather read it: (whole, part, indices) -> whole."""

    dimension_numbers: lax.ScatterDimensionNumbers
    options: tuple

    def __call__(self, whole, part, indices):
        return lax.scatter_add(whole, indices, part, self.dimension_numbers, **dict(self.options))


@rule("gather")
def _gather(primitive, needs_grad, args, params):
    x, indices = args
    aval, dimension_numbers = typeof(x), params["dimension_numbers"]
    back = lax.ScatterDimensionNumbers(
        update_window_dims=dimension_numbers.offset_dims,
        inserted_window_dims=dimension_numbers.collapsed_slice_dims,
        scatter_dims_to_operand_dims=dimension_numbers.start_index_map,
        operand_batching_dims=dimension_numbers.operand_batching_dims,
        scatter_indices_batching_dims=dimension_numbers.start_indices_batching_dims,
    )
    options = tuple((name, params[name]) for name in ("indices_are_sorted", "unique_indices", "mode"))
    add = _ScatterAdd(back, options)

    return primitive.bind(x, indices, **params), lambda g: (Scattered(aval, g, indices, add), None)


# ---------------------------------------------------------------- scatter


@dataclass(frozen=True)
class _Places:
    """The places that a scatter writes to."""

    indices: Any
    updates: Any  # their type
    params: dict

    @property
    def updates_shape(self) -> tuple:
        return self.updates.shape

    def read(self, whole):
        """Read `whole` at these places, in the shape of the updates; 0 outside of it."""
        dimension_numbers = self.params["dimension_numbers"]
        single = {*dimension_numbers.inserted_window_dims, *dimension_numbers.operand_batching_dims}
        window = iter(self.updates_shape[d] for d in dimension_numbers.update_window_dims)
        return lax.gather(
            whole,
            self.indices,
            lax.GatherDimensionNumbers(
                offset_dims=dimension_numbers.update_window_dims,
                collapsed_slice_dims=dimension_numbers.inserted_window_dims,
                start_index_map=dimension_numbers.scatter_dims_to_operand_dims,
                operand_batching_dims=dimension_numbers.operand_batching_dims,
                start_indices_batching_dims=dimension_numbers.scatter_indices_batching_dims,
            ),
            slice_sizes=tuple(1 if d in single else next(window) for d in range(whole.ndim)),
            mode=self.params["mode"],
            fill_value=0,
        )

    def _write(self, operation, whole, updates):
        options = {name: self.params[name] for name in ("indices_are_sorted", "unique_indices", "mode")}
        return operation(whole, self.indices, updates, self.params["dimension_numbers"], **options)

    def add(self, whole, updates):
        return self._write(lax.scatter_add, whole, updates)

    def multiply(self, whole, updates):
        return self._write(lax.scatter_mul, whole, updates)

    def put(self, whole, updates):
        return self._write(lax.scatter, whole, updates)


def _scatter_rule(name):
    """Register a rule written as (result, operand, updates, places) -> (to the operand, to the updates)."""

    def register(pulls):
        @rule(name)
        def apply(primitive, needs_grad, args, params):
            x, indices, updates = args
            y = primitive.bind(x, indices, updates, **params)
            to_x, to_updates = pulls(y, x, updates, _Places(indices, typeof(updates), params))
            return y, lambda g: (to_x(g) if needs_grad[0] else None, None, to_updates(g) if needs_grad[2] else None)

        return pulls

    return register


@_scatter_rule("scatter-add")
def _scatter_add(y, x, updates, places):
    return lambda g: g, places.read


@_scatter_rule("scatter-sub")
def _scatter_sub(y, x, updates, places):
    return lambda g: g, lambda g: lax.neg(places.read(g))


@_scatter_rule("scatter-mul")
def _scatter_mul(y, x, updates, places):
    """Multiply an update's cotangent by the element and by the other updates of its place."""

    def to_updates(g):
        read = places.read(lax.mul(g, x))
        if places.params["unique_indices"]:
            return read
        return lax.mul(read, _product_of_others(updates, places, np.shape(x)))

    return lambda g: places.multiply(g, updates), to_updates


def _product_of_others(updates, places, shape):
    """Multiply, for each update, all others of its place.

    There is no division, so that zeros are no special case: with the updates sorted by place, it is the product of
    those before it and of those after it.
    """
    labels = lax.add(lax.iota(np.int32, math.prod(shape)), np.int32(1))
    place = places.read(lax.reshape(labels, shape))  # 0 is outside
    place, factors = (lax.reshape(v, (updates.size,)) for v in (place, updates))
    place, position, factors = lax.sort((place, lax.iota(np.int32, updates.size), factors), num_keys=1)
    one = np.ones((), updates.dtype)

    def product_of(neighbors, shift, reverse):
        """Multiply up what a shift puts in each position, begun anew at each change of place."""
        first = lax.ne(lax.pad(place, np.int32(-1), [shift]), place)
        factors = lax.select(first, lax.full_like(neighbors, 1), neighbors)
        join = lambda a, b: (lax.bitwise_or(a[0], b[0]), lax.select(b[0], b[1], lax.mul(a[1], b[1])))
        return lax.associative_scan(join, (first, factors), reverse=reverse)[1]

    before, after = (1, -1, 0), (-1, 1, 0)
    others = lax.mul(
        product_of(lax.pad(factors, one, [before]), before, False),
        product_of(lax.pad(factors, one, [after]), after, True),
    )
    others = lax.select(lax.eq(place, lax.full_like(place, 0)), lax.full_like(others, 0), others)
    return lax.reshape(lax.sort((position, others), num_keys=1)[1], updates.shape)


@_scatter_rule("scatter")
def _scatter(y, x, updates, places):
    """Pull back to the update that won its place; what is overwritten has no gradient."""
    if places.params["update_jaxpr"] is not None:
        return _scatter_apply(y, x, updates, places)

    def to_x(g):
        return places.put(g, instantiate(places.updates))

    def to_updates(g):
        read = places.read(g)
        if places.params["unique_indices"]:
            return read
        labels = lax.add(lax.iota(np.int32, places.updates.size), np.int32(1))
        labels = lax.reshape(labels, places.updates.shape, out_sharding=placement(places.updates))
        winners = places.read(places.put(lax.full_like(x, 0, np.int32), labels))
        return lax.select(lax.eq(winners, labels), read, lax.full_like(read, 0))

    return to_x, to_updates


def _scatter_apply(y, x, updates, places):
    """Differentiate x.at[...].apply(f) of real numbers.

    An element's cotangent is multiplied by f' of it, by f' of f of it, and so on, as often as its place repeats.
    """
    body, constants, unique = (places.params[n] for n in ("update_jaxpr", "update_consts", "unique_indices"))
    function = on_arrays(lambda value: eval_jaxpr(body, constants, value, lax.full_like(value, 0)))

    def advance(values, slopes, more):
        """Apply once more where `more`."""
        (after,) = function(values)
        (slope,) = pullback_of(function, (True,), (values,))([lax.full_like(values, 1)])
        return lax.select(more, after, values), lax.select(more, lax.mul(slopes, slope), slopes)

    def to_x(g):
        repeats = places.add(lax.full(x.shape, 0, np.int32), lax.full(places.updates_shape, 1, np.int32))
        max_repeats = lax.reduce_max(repeats, range(x.ndim))
        step = lambda state: (state[0] + 1, *advance(*state[1:], lax.gt(repeats, state[0])))
        start = (np.int32(0), x, lax.full_like(x, 1))
        *_, slopes = step(start) if unique else lax.while_loop(lambda state: state[0] < max_repeats, step, start)
        return lax.mul(g, slopes)

    return to_x, lambda g: lax.full_like(updates, 0)


@_scatter_rule("scatter-max")
@_scatter_rule("scatter-min")
def _scatter_extreme(y, x, updates, places):
    """Share the cotangent of a place equally among all that equal its extreme value, the operand's own included."""

    def equal(a, b):
        return lax.convert_element_type(lax.eq(a, b), y.dtype)

    def share(g):
        reached = places.add(lax.full_like(y, 0), equal(updates, places.read(y)))
        return lax.div(g, lax.add(reached, equal(x, y)))

    return lambda g: lax.mul(share(g), equal(x, y)), lambda g: lax.mul(
        places.read(share(g)), equal(updates, places.read(y))
    )


# ---------------------------------------------------------------- sorting


def _put_along(axis, order, g, shape):
    """Write along `axis` at the positions `order`: the inverse of reading there."""
    others = tuple(d for d in range(g.ndim) if d != axis)
    dimension_numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(),
        inserted_window_dims=(axis,),
        scatter_dims_to_operand_dims=(axis,),
        operand_batching_dims=others,
        scatter_indices_batching_dims=others,
    )
    return lax.scatter_add(
        lax.full(shape, 0, g.dtype),
        lax.expand_dims(order, [g.ndim]),
        g,
        dimension_numbers,
        unique_indices=True,
        mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )


@rule("sort")
def _sort(primitive, needs_grad, args, params):
    """Sort the positions along; cotangents go back to where their values came from."""
    axis, shape = params["dimension"], np.shape(args[0])
    positions = lax.broadcasted_iota(np.int32, shape, axis)
    *results, order = primitive.bind(*args, positions, **params)

    def pull(cotangents):
        return [
            _put_along(axis, order, g, shape) if want and g is not None else None
            for g, want in zip(cotangents, needs_grad, strict=True)
        ]

    return results, needs_grad, pull


@rule("top_k", "approx_top_k")
def _top_k(primitive, needs_grad, args, params):
    (x,) = args
    axis = params["axis"] if "axis" in params else params["reduction_dimension"] % x.ndim
    values, order = primitive.bind(x, **params)
    shape = np.shape(x)
    return [values, order], [True, False], lambda cotangents: (_put_along(axis, order, cotangents[0], shape),)
