"""Convolutions: strided, dilated, grouped, batch-grouped, in any layout.

Both cotangents of a convolution are convolutions. With `size(n, d) = d (n - 1) + 1` the extent of n elements that
lie d apart, the cotangent of the input slides the reversed kernel over the cotangent of the result, whose elements
are set apart by the stride; the cotangent of the kernel slides that same spread cotangent over the input.

A depthwise convolution of images is instead written as shifted multiply-adds on a CPU, forwards and backwards
(`diffprog._kernels.depthwise`), where XLA's own is up to 200 times slower.
"""

from functools import partial

import jax
import numpy as np
from jax import lax, typeof

from diffprog._jax_internals.calls_apart import apart
from diffprog._jax_internals.devices import placement, placement_on_mesh
from diffprog._jax_internals.sizes import are_known, extent
from diffprog._kernels import depthwise
from diffprog._tracer.rules import rule

_LARGE = 2**16  # elements of an input: below, a call of its own is worth nothing


@rule("conv_general_dilated")
def _convolution(primitive, needs_grad, args, params):
    if _is_depthwise(*map(typeof, args), params):
        return _depthwise(primitive, needs_grad, args, params)
    x, kernel = args
    x_aval, kernel_aval = typeof(x), typeof(kernel)
    y = primitive.bind(x, kernel, **params)
    # Only what the wanted cotangents need is kept.
    to_x = _to_input(x_aval, kernel, params) if needs_grad[0] else None
    to_kernel = _to_kernel(x, kernel_aval, params) if needs_grad[1] else None
    return y, lambda g: (to_x and to_x(g), to_kernel and to_kernel(g))


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
    front = order.index(from_dim)
    return lax.reshape(x, (*x.shape[:front], groups * x.shape[front + 1], *x.shape[front + 2 :]))


def _convolve(x, kernel, dimension_numbers, params, like, **changes):
    options = {name: params[name] for name in ("precision", "preferred_element_type")}
    if not are_known(size for pair in changes["padding"] for size in pair):  # which a convolution cannot take
        x, changes = _padded(x, dimension_numbers[0], **changes)
    numbers, home = lax.ConvDimensionNumbers(*dimension_numbers), placement_on_mesh(like)
    pulled = lax.conv_general_dilated(x, kernel, dimension_numbers=numbers, out_sharding=home, **options, **changes)
    return lax.convert_element_type(pulled, like.dtype)


def _padded(x, spec, padding, lhs_dilation, **changes) -> tuple:
    """Spread and pad an input before its convolution; returns it and what is left to do."""
    config = [(0, 0, 0)] * x.ndim
    for d, (low, high), step in zip(spec[2:], padding, lhs_dilation, strict=True):
        config[d] = (low, high, step - 1)
    return lax.pad(x, np.zeros((), x.dtype), config), changes | {"padding": [(0, 0)] * len(padding)}


def _to_input(x, kernel, params):
    x_spec, k_spec, y_spec = params["dimension_numbers"]
    strides, spread, dilation = params["window_strides"], params["lhs_dilation"], params["rhs_dilation"]
    groups, batch_groups = params["feature_group_count"], params["batch_group_count"]
    kernel_extent = extent(_spatial_sizes(kernel.shape, k_spec), dilation)
    x_extent = extent(_spatial_sizes(x.shape, x_spec), spread)

    def pull(g):
        weights = lax.convert_element_type(lax.rev(kernel, k_spec[2:]), g.dtype)
        num_groups = max(groups, batch_groups)
        if num_groups > 1:
            weights = _regroup(weights, num_groups, k_spec[0], k_spec[1])
        low = [size - 1 - before for size, (before, _) in zip(kernel_extent, params["padding"], strict=True)]
        g_extent = extent(_spatial_sizes(g.shape, y_spec), strides)
        sizes = zip(x_extent, kernel_extent, g_extent, low, strict=True)
        high = [n + k - 1 - m - before for n, k, m, before in sizes]
        pulled = _convolve(
            g,
            weights,
            (y_spec, _swap_first(k_spec), x_spec),
            params,
            x,
            window_strides=spread,
            padding=list(zip(low, high, strict=True)),
            lhs_dilation=strides,
            rhs_dilation=dilation,
            feature_group_count=num_groups,
        )
        return _regroup(pulled, num_groups, x_spec[1], x_spec[0]) if batch_groups > 1 else pulled

    return pull


def _to_kernel(x, kernel, params):
    is_large = are_known(x.shape) and x.size >= _LARGE
    pull = _kernel_cotangent_apart if is_large else _kernel_cotangent

    def to_kernel(g):
        if 0 in g.shape:
            return lax.full(kernel.shape, 0, kernel.dtype)
        return pull(x, g, kernel=kernel, **params)

    return to_kernel


def _kernel_cotangent(x, g, *, kernel, **params):
    x_spec, k_spec, y_spec = params["dimension_numbers"]
    strides, spread, dilation = params["window_strides"], params["lhs_dilation"], params["rhs_dilation"]
    groups, batch_groups = params["feature_group_count"], params["batch_group_count"]
    kernel_extent = extent(_spatial_sizes(kernel.shape, k_spec), dilation)
    x_extent = extent(_spatial_sizes(x.shape, x_spec), spread)
    low = [before for before, _ in params["padding"]]
    g_extent = extent(_spatial_sizes(g.shape, y_spec), strides)
    sizes = zip(x_extent, kernel_extent, g_extent, low, strict=True)
    high = [m - n + k - 1 - before for n, k, m, before in sizes]
    return _convolve(
        lax.convert_element_type(x, g.dtype),
        g,
        (_swap_first(x_spec), _swap_first(y_spec), _swap_first(k_spec)),
        params,
        kernel,
        window_strides=dilation,
        padding=list(zip(low, high, strict=True)),
        lhs_dilation=spread,
        rhs_dilation=strides,
        feature_group_count=batch_groups,
        batch_group_count=groups,
    )


# In a call apart. Inlined, XLA's CPU backend would compute the images once more for it, along the axes that it reads
# and from as far up as all is elementwise: with residual connections and batch statistics, from the first layer.
_kernel_cotangent_apart = apart(_kernel_cotangent)


# ---------------------------------------------------------------- depthwise


# In calls apart. Inlined, the sum of 25 products would be computed once for each of its users, and the slices that the
# kernel's cotangent reads would be kept from the forward pass, which has read the same ones.
depthwise_sum = apart(depthwise.forward)
depthwise_kernel_cotangent = apart(depthwise.kernel_cotangent)


def _is_depthwise(x, kernel, params) -> bool:
    """Whether the shifted form computes this: a convolution of images with one filter per channel."""
    x_spec, k_spec, _ = params["dimension_numbers"]
    channels = x.shape[x_spec[1]]
    return (
        x.ndim == 4
        and are_known((*(x.shape[d] for d in x_spec[1:]), *kernel.shape))
        and x.dtype == kernel.dtype
        and params["feature_group_count"] == channels == kernel.shape[k_spec[0]] > 1
        and params["batch_group_count"] == 1
        and {*params["lhs_dilation"], *params["rhs_dilation"]} == {1}
        and params["preferred_element_type"] in (None, x.dtype)
        and min(side for pair in params["padding"] for side in pair) >= 0
        and 0 not in (*x.shape, *kernel.shape)
        and placement(x) is placement(kernel) is None
    )


def _depthwise(primitive, needs_grad, args, params):
    x_spec, k_spec, y_spec = params["dimension_numbers"]
    strides, padding = params["window_strides"], tuple(map(tuple, params["padding"]))
    x, kernel = args
    x_aval, kernel_aval = typeof(x), typeof(kernel)
    y = _depthwise_convolution(x, kernel, primitive, tuple(params.items()))

    def to_x(g):
        sizes = [(x_aval.shape, x_spec), (g.shape, y_spec), (kernel_aval.shape, k_spec)]
        turned = depthwise.turned_padding(*(_spatial_sizes(*v) for v in sizes), padding)
        if strides == (1, 1) and min(side for pair in turned for side in pair) >= 0:
            dimension_numbers = lax.ConvDimensionNumbers(y_spec, k_spec, x_spec)
            back = params | {"padding": turned, "dimension_numbers": dimension_numbers}
            return _depthwise_convolution(g, lax.rev(kernel, k_spec[2:]), primitive, tuple(back.items()))
        return lax.platform_dependent(g, kernel, cpu=shifted_to_x, default=native_to_x)

    def shifted_to_x(g, kernel):
        shape = _nhwc(x_aval.shape, x_spec)
        pulled = depthwise.input_cotangent(_to_nhwc(g, y_spec), _to_hwio(kernel, k_spec), shape, strides, padding)
        return _from_nhwc(pulled, x_spec)

    def native_to_x(g, kernel):
        return _to_input(x_aval, kernel, params)(g)

    def shifted_to_kernel(g, x):
        shape = [kernel_aval.shape[d] for d in _hwio(k_spec)]
        operands = _to_nhwc(g, y_spec), _to_nhwc(x, x_spec)
        pulled = depthwise_kernel_cotangent(*operands, kernel_shape=tuple(shape), strides=strides, padding=padding)
        return lax.transpose(pulled, np.argsort(_hwio(k_spec)))

    def native_to_kernel(g, x):
        return _to_kernel(x, kernel_aval, params)(g)

    def to_kernel(g):
        return lax.platform_dependent(g, x, cpu=shifted_to_kernel, default=native_to_kernel)

    if not needs_grad[1]:
        return y, lambda g: (to_x(g), None)
    if not needs_grad[0]:
        return y, lambda g: (None, to_kernel(g))
    return y, lambda g: (to_x(g), to_kernel(g))


@partial(jax.jit, static_argnums=(2, 3))
def _depthwise_convolution(x, kernel, primitive, params):
    """Convolve in the form that is fast on the platform it will run on.

    Jitted, so that equal layers are traced and lowered once, and so are their backward passes, which with stride 1
    are the same convolution with the kernel turned round.
    """
    params = dict(params)
    x_spec, k_spec, y_spec = params["dimension_numbers"]

    def shifted(x, kernel):
        operands = _to_nhwc(x, x_spec), _to_hwio(kernel, k_spec)
        sums = depthwise_sum(*operands, strides=params["window_strides"], padding=tuple(params["padding"]))
        return _from_nhwc(sums, y_spec)

    return lax.platform_dependent(x, kernel, cpu=shifted, default=lambda x, k: primitive.bind(x, k, **params))


def _nhwc(values, spec) -> tuple:
    return values[spec[0]], *_spatial_sizes(values, spec), values[spec[1]]


def _to_nhwc(x, spec):
    return lax.transpose(x, _nhwc(range(4), spec))


def _from_nhwc(x, spec):
    return lax.transpose(x, np.argsort(_nhwc(range(4), spec)))


def _hwio(spec) -> tuple:
    return *spec[2:], spec[1], spec[0]


def _to_hwio(kernel, spec):
    return lax.transpose(kernel, _hwio(spec))
