"""Depthwise convolution as k*k shifted multiply-adds, forwards and backwards.

On XLA's CPU backend `conv_general_dilated` with one group per channel runs 20 to 200 times slower than the same sum
written out: pad once, then for each tap multiply a shifted (strided) slice by that tap's vector of channels, and add.
XLA fuses the whole sum into one loop. The backward sums have the same form, which differentiating the forward sum
would not give: that yields a chain of k*k padded additions.

Layouts: x is NHWC, the kernel HWIO with I = 1 (one filter per channel), padding is ((low, high), (low, high)),
nonnegative. With p = low padding and s = stride, along each spatial axis:

    y[i] = sum_a  x[s*i + a - p] * kernel[a]
"""

from collections.abc import Sequence
from functools import partial, reduce
from itertools import product

import jax
import jax.numpy as jnp
from jax import lax


@partial(jax.jit, static_argnames=("strides", "padding"))
def forward(x, kernel, strides, padding):
    """Convolve: (n, h, w, c), (kh, kw, 1, c) -> (n, h', w', c).

    Jitted, so that the many equal layers of a network, and their backward sums, are traced and lowered once.
    """
    sizes = _output_sizes(x.shape, kernel.shape, strides, padding)
    x = _pad(x, padding)
    taps = zip(_taps(kernel.shape), _vectors(kernel), strict=True)
    return reduce(lax.add, (lax.mul(_window(x, tap, sizes, strides), vector) for tap, vector in taps))


def kernel_cotangent(g, x, kernel_shape, strides, padding):
    """Pull back to the kernel: for each tap, correlate g with the slice of x that the tap saw."""
    x = _pad(x, padding)
    products = (lax.mul(g, _window(x, tap, g.shape[1:3], strides)) for tap in _taps(kernel_shape))
    return lax.reshape(lax.concatenate([lax.reduce_sum(p, (0, 1, 2)) for p in products], 0), kernel_shape)


def input_cotangent(g, kernel, x_shape, strides, padding):
    """Pull back to x, gathering and not scattering.

    Position u of x meets tap a in output i when s*i + a - p = u. Positions that share u mod s (a phase) meet the same
    taps, so each phase is a dense shifted sum over g; the s*s phases are then interleaved by a stack and a reshape.
    With stride 1 that is the forward sum with the kernel turned round.
    """
    turned = turned_padding(x_shape[1:3], g.shape[1:3], kernel.shape[:2], padding)
    if strides == (1, 1) and min(side for pair in turned for side in pair) >= 0:
        return forward(g, lax.rev(kernel, (0, 1)), strides, turned)
    return _interleaved(g, kernel, x_shape, strides, padding)


def turned_padding(x_sizes, g_sizes, kernel_sizes, padding) -> tuple:
    """Pad the cotangent of a result, over which with stride 1 the kernel turned round slides."""
    return tuple(
        (taps - 1 - low, size - out + low)
        for size, out, taps, (low, _) in zip(x_sizes, g_sizes, kernel_sizes, padding, strict=True)
    )


@partial(jax.jit, static_argnames=("x_shape", "strides", "padding"))
def _interleaved(g, kernel, x_shape, strides, padding):
    phases = [_Phases(*axis) for axis in zip(x_shape[1:3], kernel.shape[:2], strides, padding, strict=True)]
    rows, columns = phases
    g = _pad(g, [phase.padding(size) for phase, size in zip(phases, g.shape[1:3], strict=True)])
    length = (rows.length, columns.length)

    vectors = dict(zip(_taps(kernel.shape), _vectors(kernel), strict=True))

    def phase(r, c):
        terms = [
            lax.mul(_window(g, (i, j), length, (1, 1)), vectors[a, b])
            for (i, a), (j, b) in product(rows.terms(r), columns.terms(c))
        ]
        return reduce(lax.add, terms) if terms else jnp.zeros((g.shape[0], *length, g.shape[3]), g.dtype)

    grid = [jnp.stack([phase(r, c) for c in range(strides[1])], axis=3) for r in range(strides[0])]
    grid = jnp.stack(grid, axis=2)  # n, rows, row phase, columns, column phase, c
    full = grid.reshape(g.shape[0], length[0] * strides[0], length[1] * strides[1], g.shape[3])
    return full[:, : x_shape[1], : x_shape[2]]


class _Phases:
    """Index arithmetic of `input_cotangent` along one axis.

    Position u = s*q + r gathers g[q + offset(r) - m] for the taps a = (r + p) mod s + s*m.
    """

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


def _vectors(kernel) -> Sequence[jax.Array]:
    """List the vector of channels of each tap, (1, 1, 1, c), in the order of `_taps`."""
    height, width, _, channels = kernel.shape
    return lax.split(lax.reshape(kernel, (height * width, 1, 1, channels)), (1,) * (height * width))


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


def native(x, kernel, strides, padding):
    """Convolve by `conv_general_dilated`."""
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1]
    )
