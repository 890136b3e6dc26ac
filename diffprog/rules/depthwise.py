"""Depthwise convolution as k*k shifted multiply-adds, forwards and backwards.

On XLA's CPU backend `conv_general_dilated` with one group per channel runs 20 to 200 times slower than the same sum
written out: pad once, then for each tap multiply a shifted (strided) slice by that tap's vector of channels, and add.
XLA fuses the whole sum into one loop. The backward sums have the same form, which differentiating the forward sum
would not give: that yields a chain of k*k padded additions.

Layouts: x is NHWC, the kernel HWIO with I = 1 (one filter per channel), padding is ((low, high), (low, high)),
nonnegative. With p = low padding and s = stride, along each spatial axis:

    y[i] = sum_a  x[s*i + a - p] * kernel[a]
"""

from functools import partial, reduce
from itertools import product

import jax
import jax.numpy as jnp
from jax import lax


def forward(x, kernel, strides, padding):
    """The convolution itself: (n, h, w, c), (kh, kw, 1, c) -> (n, h', w', c)."""
    sizes = _output_sizes(x.shape, kernel.shape, strides, padding)
    x = _pad(x, padding)
    return reduce(lax.add, (lax.mul(_window(x, tap, sizes, strides), _at(kernel, tap)) for tap in _taps(kernel.shape)))


def kernel_cotangent(g, x, kernel_shape, strides, padding):
    """Cotangent of the kernel: for each tap, the correlation of g with the slice of x that the tap saw."""
    x = _pad(x, padding)
    products = (lax.mul(g, _window(x, tap, g.shape[1:3], strides)) for tap in _taps(kernel_shape))
    return lax.reshape(lax.concatenate([lax.reduce_sum(p, (0, 1, 2)) for p in products], 0), kernel_shape)


def input_cotangent(g, kernel, x_shape, strides, padding):
    """Cotangent of x, gathered and not scattered.

    Position u of x meets tap a in output i when s*i + a - p = u. Positions that share u mod s (a phase) meet the same
    taps, so each phase is a dense shifted sum over g; the s*s phases are then interleaved by a stack and a reshape.
    """
    phases = [_Phases(*axis) for axis in zip(x_shape[1:3], kernel.shape[:2], strides, padding, strict=True)]
    rows, columns = phases
    g = _pad(g, [phase.padding(size) for phase, size in zip(phases, g.shape[1:3], strict=True)])
    length = (rows.length, columns.length)

    def phase(r, c):
        terms = [
            lax.mul(_window(g, (i, j), length, (1, 1)), _at(kernel, (a, b)))
            for (i, a), (j, b) in product(rows.terms(r), columns.terms(c))
        ]
        return reduce(lax.add, terms) if terms else jnp.zeros((g.shape[0], *length, g.shape[3]), g.dtype)

    if strides == (1, 1):
        return phase(0, 0)
    grid = [jnp.stack([phase(r, c) for c in range(strides[1])], axis=3) for r in range(strides[0])]
    grid = jnp.stack(grid, axis=2)  # n, rows, row phase, columns, column phase, c
    full = grid.reshape(g.shape[0], length[0] * strides[0], length[1] * strides[1], g.shape[3])
    return full[:, : x_shape[1], : x_shape[2]]


class _Phases:
    """Index arithmetic of `input_cotangent` along one axis: position u = s*q + r gathers g[q + offset(r) - m] for
    the taps a = (r + p) mod s + s*m."""

    def __init__(self, size, taps, stride, padding):
        self.taps, self.stride, self.low = taps, stride, padding[0]
        self.length = -(-size // stride)
        self.margin = max(-(-taps // stride) - 1 - self.low // stride, 0)  # g's zeros before its first element

    def terms(self, r):
        """Pairs (start of the window in the padded g, tap)."""
        offset, first = divmod(r + self.low, self.stride)
        return [(self.margin + offset - m, a) for m, a in enumerate(range(first, self.taps, self.stride))]

    def padding(self, size):
        last = (self.stride - 1 + self.low) // self.stride + self.length
        return self.margin, max(last - size, 0)


def _at(kernel, tap):
    """The tap's vector of channels, (1, 1, 1, c)."""
    return lax.slice(kernel, (*tap, 0, 0), (tap[0] + 1, tap[1] + 1, *kernel.shape[2:]))


def _taps(kernel_shape):
    return product(range(kernel_shape[0]), range(kernel_shape[1]))


def _output_sizes(x_shape, kernel_shape, strides, padding):
    axes = zip(x_shape[1:3], kernel_shape[:2], strides, padding, strict=True)
    return [max((size + sum(pad) - taps) // stride + 1, 0) for size, taps, stride, pad in axes]


def _pad(x, padding):
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)])


def _window(x, start, sizes, strides):
    stop = [first + (size - 1) * step + 1 for first, size, step in zip(start, sizes, strides, strict=True)]
    return lax.slice(x, (0, *start, 0), (x.shape[0], *stop, x.shape[3]), (1, *strides, 1))


# The fast form on CPU, the native one where it is good (and the shifted sum is not).


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_convolution(x, kernel, strides, padding):
    """Depthwise convolution of x (n, h, w, c) with one filter per channel (kh, kw, 1, c), fast on every backend.

    strides: (int, int); padding: ((low, high), (low, high)) nonnegative. Both as tuples.
    """
    return _convolution(x, kernel, strides, padding)


def _convolution(x, kernel, strides, padding):
    return lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: forward(x, kernel, strides, padding),
        default=lambda x, kernel: native(x, kernel, strides, padding),
    )


def _depthwise_fwd(x, kernel, strides, padding):
    # Not `depthwise_convolution`: forward mode over this, as in a Hessian times a vector, cannot enter a custom_vjp.
    return _convolution(x, kernel, strides, padding), (x, kernel)


def _depthwise_bwd(strides, padding, residuals, g):
    def shifted(g, x, kernel):
        return (
            input_cotangent(g, kernel, x.shape, strides, padding),
            kernel_cotangent(g, x, kernel.shape, strides, padding),
        )

    def transposed(g, x, kernel):
        return jax.vjp(lambda x, kernel: native(x, kernel, strides, padding), x, kernel)[1](g)

    return lax.platform_dependent(g, *residuals, cpu=shifted, default=transposed)


depthwise_convolution.defvjp(_depthwise_fwd, _depthwise_bwd)


def native(x, kernel, strides, padding):
    """The same convolution by `conv_general_dilated`."""
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1]
    )
