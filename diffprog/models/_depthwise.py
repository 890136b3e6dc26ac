"""Depthwise convolution as a differentiable function: shifted sums on CPUs, the native form elsewhere."""

from dataclasses import dataclass
from functools import partial

import jax
from jax import lax

from diffprog._jax_internals import SymbolicZero
from diffprog._kernels.depthwise import input_cotangent, native
from diffprog._rules.convolutions import depthwise_kernel_cotangent, depthwise_sum
from diffprog._rules.via_equivalent_program import pullback_of
from diffprog._util.lists import expand, select


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_convolution(x: jax.Array, kernel: jax.Array, strides: tuple, padding: tuple) -> jax.Array:
    """Convolve with one filter per channel, fast on every backend.

    Args:
      x: Array (n, h, w, c).
      kernel: Array (kh, kw, 1, c).
      strides: (int, int).
      padding: ((low, high), (low, high)), not negative.
    """
    return _convolution(x, kernel, strides, padding)


def _convolution(x, kernel, strides, padding):
    return lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: depthwise_sum(x, kernel, strides=strides, padding=padding),
        default=lambda x, kernel: native(x, kernel, strides, padding),
    )


@jax.tree_util.register_static
@dataclass(frozen=True)
class _NeedsGrad:
    """Which arguments have a gradient, as a residual without arrays."""

    flags: tuple[bool, bool]


def _depthwise_fwd(x, kernel, strides, padding):
    needs_grad = _NeedsGrad((x.perturbed, kernel.perturbed))
    x, kernel = x.value, kernel.value
    # Not `depthwise_convolution`: forward mode over this, as in a Hessian times a vector, cannot enter a custom_vjp.
    return _convolution(x, kernel, strides, padding), (x, kernel, needs_grad)


def _depthwise_bwd(strides, padding, residuals, g):
    x, kernel, needs_grad = residuals
    if isinstance(g, SymbolicZero):
        return None, None

    def shifted(g, x, kernel):
        to_x, to_kernel = needs_grad.flags
        return [
            *([input_cotangent(g, kernel, x.shape, strides, padding)] if to_x else []),
            *(
                [depthwise_kernel_cotangent(g, x, kernel_shape=kernel.shape, strides=strides, padding=padding)]
                if to_kernel
                else []
            ),
        ]

    def transposed(g, x, kernel):
        pull = pullback_of(partial(native, strides=strides, padding=padding), needs_grad.flags, (x, kernel))
        return select(pull(g), needs_grad.flags)

    sent = lax.platform_dependent(g, x, kernel, cpu=shifted, default=transposed)
    return tuple(expand(sent, needs_grad.flags))


depthwise_convolution.defvjp(_depthwise_fwd, _depthwise_bwd, symbolic_zeros=True)
