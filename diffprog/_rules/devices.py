"""Collectives, which compute across devices, and operations that say where an array lies.

Two conventions meet here, as in JAX. With `shard_map(check_vma=True)` the type of a value says over which axes
it varies, a sum over devices is invariant, and its cotangent needs no communication. Without these types
(`check_vma=False`, `vmap`, older programs) every device holds its own copy of a sum, each with its own
cotangent, so that the cotangents are summed over the devices again.
"""

import jax
import numpy as np
from jax import lax, typeof
from jax.experimental import multihost_utils

from diffprog._jax_internals import devices, instantiate
from diffprog._tracer.rules import linear, no_derivative, rule
from diffprog._tracer.vjp import vjp

no_derivative("axis_index")

# ---------------------------------------------------------------- sums and extreme values


def _split_axes(axes):
    """Separate names of device axes and numbers of array axes: under `vmap` a named axis may be one of the array."""
    return [a for a in axes if not isinstance(a, int)], [a for a in axes if isinstance(a, int)]


def _spread(y, aval, array_axes):
    """Repeat `y`, reduced over these array axes, to the shape before."""
    if not array_axes:
        return y
    return lax.broadcast_in_dim(y, aval.shape, [d for d in range(aval.ndim) if d not in array_axes])


def _sum_of_copies(g, x, *, axes, axis_index_groups=None):
    names, array_axes = _split_axes(axes)
    g = _spread(g, x, array_axes)
    return lax.psum(g, tuple(names), axis_index_groups=axis_index_groups) if names else g


linear("psum", _sum_of_copies)
linear("psum_invariant", lambda g, x, *, axes: lax.pcast(g, axes, to="varying"))


def _extreme(primitive, axes, axis_index_groups):
    """Make the largest or smallest value over devices a function with the derivative that JAX does not give it.

    Devices (and elements) that share the extreme value have equal shares in its derivative. As the shares add up to
    one, this is a subgradient, as for `reduce_max`.
    """
    names, array_axes = _split_axes(axes)

    def total(x):
        x = lax.reduce_sum(x, array_axes)
        return lax.psum(x, tuple(names), axis_index_groups=axis_index_groups) if names else x

    @jax.custom_jvp
    def extreme(x):
        return primitive.bind(x, axes=axes, axis_index_groups=axis_index_groups)

    @extreme.defjvp
    def tangent(primals, tangents):
        (x,), (t,) = primals, tangents
        y = extreme(x)
        chosen = lax.convert_element_type(lax.eq(x, _spread(y, typeof(x), array_axes)), t.dtype)
        return y, lax.div(total(lax.mul(chosen, t)), total(chosen))

    return extreme


@rule("pmax", "pmin")
def _pmax(primitive, needs_grad, args, params):
    return vjp(_extreme(primitive, **params), *args)


# ---------------------------------------------------------------- moving blocks between devices


linear("ppermute", lambda g, x, *, axis_name, perm: lax.ppermute(g, axis_name, [(to, source) for source, to in perm]))


@rule("pbroadcast", "pbroadcast_dynamic")
def _pbroadcast(primitive, needs_grad, args, params):
    """Send the source the sum of the cotangents, as every device has its value."""
    name = params["axis_name"]
    source = args[1] if len(args) > 1 else params["source"]

    def pull(g):
        total = lax.psum(g, name)
        here = lax.eq(lax.axis_index(name), lax.convert_element_type(source, np.int32))
        return lax.select(here, total, lax.full_like(total, 0)), *[None] * len(args[1:])

    return primitive.bind(*args, **params), pull


def _all_to_all(g, x, *, axis_name, split_axis, concat_axis, axis_index_groups, tiled):
    # Of the operation itself (unlike of `lax.all_to_all`) both kinds keep the rank, as tiling does.
    return lax.all_to_all(g, axis_name, concat_axis, split_axis, axis_index_groups=axis_index_groups, tiled=True)


linear("all_to_all", _all_to_all)


@rule("ragged_all_to_all")
def _ragged_all_to_all(primitive, needs_grad, args, params):
    """Send the rows that were received back; `output` keeps the cotangent of the rows that nothing was written to."""
    operand, _, input_offsets, send_sizes, output_offsets, receive_sizes = args
    like, name, groups = typeof(operand), params["axis_name"], params["axis_index_groups"]

    def pull(g):
        swap = lambda offsets: lax.all_to_all(offsets, name, 0, 0, axis_index_groups=groups, tiled=True)
        starts = swap(output_offsets)  # where in the output here each device's rows were written
        back = (starts, receive_sizes, swap(input_offsets), send_sizes)
        to_operand = primitive.bind(g, instantiate(like), *back, **params)
        row = lax.broadcasted_iota(starts.dtype, (g.shape[0], starts.size), 0)
        first, end = (lax.broadcast(x, (g.shape[0],)) for x in (starts, lax.add(starts, receive_sizes)))
        written = lax.reduce_or(lax.bitwise_and(lax.ge(row, first), lax.lt(row, end)), (1,))
        to_output = lax.select(lax.broadcast_in_dim(written, g.shape, (0,)), lax.full_like(g, 0), g)
        return to_operand, to_output, *[None] * 4

    return primitive.bind(*args, **params), pull


# ---------------------------------------------------------------- gathering and scattering


def _scatter(g, x, *, axis_name, all_gather_dimension, tiled, axis_size, axis_index_groups=None):
    return lax.psum_scatter(
        g, axis_name, scatter_dimension=all_gather_dimension, axis_index_groups=axis_index_groups, tiled=tiled
    )


def _own_block(g, x, *, axis_name, all_gather_dimension, tiled, axis_size):
    """Take the own part of the cotangent: the gathered array is equal everywhere, and so is its cotangent."""
    size = g.shape[all_gather_dimension] // axis_size
    block = lax.dynamic_slice_in_dim(g, lax.axis_index(axis_name) * size, size, all_gather_dimension)
    return block if tiled else lax.squeeze(block, [all_gather_dimension])


linear("all_gather", _scatter)
linear("all_gather_reduced", _scatter)
linear("all_gather_invariant", _own_block)


def _gather(to):
    def transposed(g, x, *, axis_name, scatter_dimension, tiled, axis_size, axis_index_groups=None):
        return lax.all_gather(
            g, axis_name, axis_index_groups=axis_index_groups, axis=scatter_dimension, tiled=tiled, to=to
        )

    return transposed


linear("reduce_scatter", _gather("varying"))
linear("unreduced_reduce_scatter", _gather("reduced"))

# ---------------------------------------------------------------- how a value varies

# The cotangent of an invariant value is invariant, of a varying one varying; a value `reduced` has an `unreduced`
# cotangent (each device holds a term of it) and the other way round. Each cast is transposed by the one back.
linear("pvary", lambda g, x, *, axes: lax.psum(g, axes))
linear("preduced", lambda g, x, *, axes: lax.psum(g, axes))
linear("unreduced_psum", lambda g, x, *, axes: lax.pcast(g, axes, to="reduced"))
for _suffix in ("", "_p"):  # their names before JAX 0.11 end so
    linear("vary_unreduced_cast" + _suffix, lambda g, x, *, axes: lax.pcast(g, axes, to="varying"))
    linear("reduced_vary_cast" + _suffix, lambda g, x, *, axes: lax.pcast(g, axes, to="unreduced"))

# ---------------------------------------------------------------- where an array lies


@rule("reshard")
def _reshard(primitive, needs_grad, args, params):
    like = typeof(args[0])
    return primitive.bind(*args, **params), lambda g: (devices.reshard_like(primitive, g, like, params),)


@rule("relayout")
def _relayout(primitive, needs_grad, args, params):
    like = typeof(args[0])
    return primitive.bind(*args, **params), lambda g: (devices.relayout_like(primitive, g, like),)


@rule("with_memory_space_constraint")
def _with_memory_space_constraint(primitive, needs_grad, args, params):
    home = typeof(args[0]).memory_space
    return primitive.bind(*args, **params), lambda g: (primitive.bind(g, memory_space=home),)


@rule("sharding_constraint", "layout_constraint")
def _constraint(primitive, needs_grad, args, params):
    """Put the cotangent under the same constraint."""
    return primitive.bind(*args, **params), lambda g: (primitive.bind(g, **params),)


@rule("shard_alike")
def _shard_alike(primitive, needs_grad, args, params):
    results = primitive.bind(*args, **params)

    def pull(cotangents):
        if any(g is None for g in cotangents):
            return cotangents
        return primitive.bind(*cotangents, **params)

    return results, needs_grad, pull


def _to_global(g, x, *, global_mesh, pspec):
    return multihost_utils.host_local_array_to_global_array(g, global_mesh, pspec)


def _to_host_local(g, x, *, global_mesh, pspec):
    return multihost_utils.global_array_to_host_local_array(g, global_mesh, pspec)


linear("global_array_to_host_local_array", _to_global)
linear("host_local_array_to_global_array", _to_host_local)
