"""Convolutions: strided, dilated, grouped, batch-grouped, in any layout.

Both cotangents of a convolution are convolutions. With `size(n, d) = d (n - 1) + 1` the extent of n elements that
lie d apart, the cotangent of the input slides the reversed kernel over the cotangent of the result, whose elements
are set apart by the stride; the cotangent of the kernel slides that same spread cotangent over the input.

A depthwise convolution of images is instead written as shifted multiply-adds on a CPU, forwards and backwards
(`diffprog.rules.depthwise`), where XLA's own is up to 200 times slower.
"""

import numpy as np
from jax import lax, typeof

from diffprog.rules import depthwise
from diffprog.rules.table import rule


@rule("conv_general_dilated")
def _convolution(primitive, wanted, args, params):
    if _is_depthwise(*map(typeof, args), params):
        return _depthwise(primitive, wanted, args, params)
    x, kernel = args
    x_aval, kernel_aval = typeof(x), typeof(kernel)
    y = primitive.bind(x, kernel, **params)
    # Only what the wanted cotangents need is kept.
    to_x = _to_input(x_aval, kernel, params) if wanted[0] else None
    to_kernel = _to_kernel(x, kernel_aval, params) if wanted[1] else None
    return y, lambda g: (to_x and to_x(g), to_kernel and to_kernel(g))


def _extent(sizes, spacing):
    return np.array([(n - 1) * d + 1 if n else 0 for n, d in zip(sizes, spacing, strict=True)], int)


def _spatial_sizes(shape, spec):
    return [shape[d] for d in spec[2:]]


def _swap_first(spec):
    return (spec[1], spec[0], *spec[2:])


def _regroup(x, groups, from_dim, to_dim):
    """Split `groups` off the front of one dimension and put them at the front of another."""
    size = x.shape[from_dim] // groups
    x = lax.reshape(x, (*x.shape[:from_dim], groups, size, *x.shape[from_dim + 1 :]))
    target = to_dim if to_dim < from_dim else to_dim + 1
    order = [d for d in range(x.ndim) if d != from_dim]
    order.insert(order.index(target), from_dim)
    x = lax.transpose(x, order)
    at = order.index(from_dim)
    return lax.reshape(x, (*x.shape[:at], groups * x.shape[at + 1], *x.shape[at + 2 :]))


def _convolve(x, kernel, numbers, params, like, **changes):
    options = {name: params[name] for name in ("precision", "preferred_element_type")}
    found = lax.conv_general_dilated(
        x, kernel, dimension_numbers=lax.ConvDimensionNumbers(*numbers), **options, **changes
    )
    return lax.convert_element_type(found, like.dtype)


def _to_input(x, kernel, params):
    x_spec, k_spec, y_spec = params["dimension_numbers"]
    strides, spread, dilation = params["window_strides"], params["lhs_dilation"], params["rhs_dilation"]
    groups, batch_groups = params["feature_group_count"], params["batch_group_count"]
    kernel_extent = _extent(_spatial_sizes(kernel.shape, k_spec), dilation)
    x_extent = _extent(_spatial_sizes(x.shape, x_spec), spread)

    def pull(g):
        weights = lax.convert_element_type(lax.rev(kernel, k_spec[2:]), g.dtype)
        count = max(groups, batch_groups)
        if count > 1:
            weights = _regroup(weights, count, k_spec[0], k_spec[1])
        low = kernel_extent - 1 - [low for low, _ in params["padding"]]
        high = x_extent + kernel_extent - 1 - _extent(_spatial_sizes(g.shape, y_spec), strides) - low
        found = _convolve(
            g, weights, (y_spec, _swap_first(k_spec), x_spec), params, x,
            window_strides=spread, padding=list(zip(low, high, strict=True)), lhs_dilation=strides,
            rhs_dilation=dilation, feature_group_count=count,
        )  # fmt: skip
        return _regroup(found, count, x_spec[1], x_spec[0]) if batch_groups > 1 else found

    return pull


def _to_kernel(x, kernel, params):
    x_spec, k_spec, y_spec = params["dimension_numbers"]
    strides, spread, dilation = params["window_strides"], params["lhs_dilation"], params["rhs_dilation"]
    groups, batch_groups = params["feature_group_count"], params["batch_group_count"]
    kernel_extent = _extent(_spatial_sizes(kernel.shape, k_spec), dilation)
    x_extent = _extent(_spatial_sizes(x.shape, x_spec), spread)

    def pull(g):
        if 0 in g.shape:
            return lax.full(kernel.shape, 0, kernel.dtype)
        low = np.array([low for low, _ in params["padding"]], int)
        high = _extent(_spatial_sizes(g.shape, y_spec), strides) - x_extent + kernel_extent - 1 - low
        return _convolve(
            lax.convert_element_type(x, g.dtype), g, (_swap_first(x_spec), _swap_first(y_spec), _swap_first(k_spec)),
            params, kernel,
            window_strides=dilation, padding=list(zip(low, high, strict=True)), lhs_dilation=spread,
            rhs_dilation=strides, feature_group_count=batch_groups, batch_group_count=groups,
        )  # fmt: skip

    return pull


# ---------------------------------------------------------------- depthwise


def _is_depthwise(x, kernel, params) -> bool:
    """Whether this is a convolution of images with one filter per channel that the shifted form computes."""
    x_spec, k_spec, _ = params["dimension_numbers"]
    channels = x.shape[x_spec[1]]
    return (
        x.ndim == 4
        and x.dtype == kernel.dtype
        and params["feature_group_count"] == channels == kernel.shape[k_spec[0]] > 1
        and params["batch_group_count"] == 1
        and {*params["lhs_dilation"], *params["rhs_dilation"]} == {1}
        and params["preferred_element_type"] in (None, x.dtype)
        and min(side for pair in params["padding"] for side in pair) >= 0
        and 0 not in (*x.shape, *kernel.shape)
    )


def _depthwise(primitive, wanted, args, params):
    x_spec, k_spec, y_spec = params["dimension_numbers"]
    strides, padding = params["window_strides"], tuple(map(tuple, params["padding"]))
    to_nhwc = lambda v, spec: lax.transpose(v, (spec[0], *spec[2:], spec[1]))
    from_nhwc = lambda v, spec: lax.transpose(v, np.argsort((spec[0], *spec[2:], spec[1])))
    to_hwio = lambda k: lax.transpose(k, (*k_spec[2:], k_spec[1], k_spec[0]))
    from_hwio = lambda k: lax.transpose(k, np.argsort((*k_spec[2:], k_spec[1], k_spec[0])))
    x, kernel = args
    x_aval, kernel_aval = typeof(x), typeof(kernel)

    def shifted(x, kernel):
        return from_nhwc(depthwise.forward(to_nhwc(x, x_spec), to_hwio(kernel), strides, padding), y_spec)

    y = lax.platform_dependent(x, kernel, cpu=shifted, default=lambda x, k: primitive.bind(x, k, **params))

    def shifted_to_x(g, kernel):
        shape = tuple(x_aval.shape[d] for d in (x_spec[0], *x_spec[2:], x_spec[1]))
        return from_nhwc(
            depthwise.input_cotangent(to_nhwc(g, y_spec), to_hwio(kernel), shape, strides, padding), x_spec
        )

    def shifted_to_kernel(g, x):
        shape = tuple(kernel_aval.shape[d] for d in (*k_spec[2:], k_spec[1], k_spec[0]))
        return from_hwio(depthwise.kernel_cotangent(to_nhwc(g, y_spec), to_nhwc(x, x_spec), shape, strides, padding))

    def to_x(g):
        native = lambda g, kernel: _to_input(x_aval, kernel, params)(g)
        return lax.platform_dependent(g, kernel, cpu=shifted_to_x, default=native)

    def to_kernel(g):
        native = lambda g, x: _to_kernel(x, kernel_aval, params)(g)
        return lax.platform_dependent(g, x, cpu=shifted_to_kernel, default=native)

    if not wanted[1]:
        return y, lambda g: (to_x(g), None)
    if not wanted[0]:
        return y, lambda g: (None, to_kernel(g))
    return y, lambda g: (to_x(g), to_kernel(g))
