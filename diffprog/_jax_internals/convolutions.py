"""Convolutions that are fast inside loops and calls.

XLA's CPU backend brings the convolutions of a program into the layout that it is fast at (batch, space, channels;
space, channels in, channels out), but not those in loops, branches and calls, where others take 10 to 70 times as
long. The convolutions of a backward pass have other layouts. So in such places they are written in that layout, with
transposes around them. Other backends read layouts as they find them, and get the convolution as it is.
"""

from functools import partial

import numpy as np
from jax import lax, typeof
from jax._src import dispatch
from jax._src.interpreters import ad, batching, mlir
from jax._src.lax import convolution
from jax._src.util import weakref_lru_cache
from jax.extend.core import Primitive, jaxpr_as_fun

from diffprog._jax_internals.jaxprs import jaxprs_in, map_programs, trace_to_closed_jaxpr, with_equations

__all__ = ["with_fast_convolutions"]

# Of the same name and rules as JAX's, so that whoever looks at it finds a convolution: only its lowering differs.
_convolution_p = Primitive(lax.conv_general_dilated_p.name)
_convolution_p.def_impl(partial(dispatch.apply_primitive, _convolution_p))
_convolution_p.def_effectful_abstract_eval(lax.conv_general_dilated_p.abstract_eval)
ad.defbilinear(
    _convolution_p, convolution._conv_general_dilated_transpose_lhs, convolution._conv_general_dilated_transpose_rhs
)


def _fast_layout(ndim: int) -> lax.ConvDimensionNumbers:
    images, kernels = (0, ndim - 1, *range(1, ndim - 1)), (ndim - 1, ndim - 2, *range(ndim - 2))
    return lax.ConvDimensionNumbers(images, kernels, images)


def _in_fast_layout(x, kernel, **params):
    x_spec, kernel_spec, y_spec = params["dimension_numbers"]
    x = lax.transpose(x, (x_spec[0], *x_spec[2:], x_spec[1]))
    kernel = lax.transpose(kernel, (*kernel_spec[2:], kernel_spec[1], kernel_spec[0]))
    params |= {"dimension_numbers": _fast_layout(x.ndim)}
    y = lax.conv_general_dilated_p.bind(x, kernel, **params)
    return lax.transpose(y, np.argsort((y_spec[0], *y_spec[2:], y_spec[1])))


mlir.register_lowering(_convolution_p, mlir.lower_fun(lax.conv_general_dilated_p.bind, multiple_results=False))
mlir.register_lowering(_convolution_p, mlir.lower_fun(_in_fast_layout, multiple_results=False), platform="cpu")


def _batch(axis, args, dims, **params):
    batch_convolution = batching.fancy_primitive_batchers[lax.conv_general_dilated_p]
    y_dim = None

    def batched(*args):
        nonlocal y_dim
        y, y_dim = batch_convolution(axis, args, dims, **params)
        return [y]

    program = trace_to_closed_jaxpr(batched, list(map(typeof, args)), "convolution")
    (y,) = jaxpr_as_fun(with_fast_convolutions(program))(*args)
    return y, y_dim


batching.fancy_primitive_batchers[_convolution_p] = _batch


@weakref_lru_cache
def with_fast_convolutions(jaxpr):
    """Put convolutions in the fast layout into a closed jaxpr that runs in a loop, a branch or a call."""
    if not _has_slow_convolution(jaxpr):
        return jaxpr
    changed = lambda eqn: eqn.replace(
        primitive=_convolution_p if _is_slow(eqn) else eqn.primitive,
        params=map_programs(with_fast_convolutions, eqn.params),
    )
    return with_equations(jaxpr, list(map(changed, jaxpr.eqns)))


@weakref_lru_cache
def _has_slow_convolution(jaxpr) -> bool:
    return any(_is_slow(eqn) or any(map(_has_slow_convolution, jaxprs_in(eqn.params))) for eqn in jaxpr.eqns)


def _is_slow(eqn) -> bool:
    return eqn.primitive is lax.conv_general_dilated_p and eqn.params["dimension_numbers"] != _fast_layout(
        eqn.outvars[0].aval.ndim
    )
