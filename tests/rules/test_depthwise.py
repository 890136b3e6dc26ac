"""The shifted sums against XLA's own convolution and its VJP, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog._kernels import depthwise
from diffprog.models._depthwise import depthwise_convolution

CASES = [  # size, kernel, strides, padding
    ((7, 9), (3, 3), (1, 1), ((1, 1), (1, 1))),
    ((8, 8), (3, 3), (2, 2), ((0, 1), (0, 1))),
    ((9, 8), (5, 5), (2, 2), ((2, 2), (1, 2))),
    ((10, 7), (5, 3), (3, 2), ((4, 0), (0, 3))),
    ((6, 5), (1, 1), (1, 1), ((0, 0), (0, 0))),
    ((8, 9), (2, 1), (3, 2), ((0, 0), (0, 0))),  # stride longer than the kernel: positions that nothing reads
    ((5, 5), (2, 2), (1, 1), ((3, 2), (4, 1))),  # padding longer than the kernel
    ((11, 11), (4, 4), (2, 3), ((0, 0), (0, 0))),  # the last rows and columns are never read
    ((4, 6), (6, 2), (2, 1), ((6, 6), (3, 3))),
    ((5, 5), (3, 3), (2, 2), ((9, 8), (7, 6))),
]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def example(size, kernel, seed=0):
    random = np.random.default_rng(seed)
    return jnp.asarray(random.normal(size=(2, *size, 3))), jnp.asarray(random.normal(size=(*kernel, 1, 3)))


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == jnp.float64
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12 * max(float(jnp.abs(theirs).max()), 1e-300))


@pytest.mark.parametrize("size, kernel, strides, padding", CASES)
def test_forward_and_cotangents_agree_with_xla(x64, size, kernel, strides, padding):
    x, k = example(size, kernel)
    g = jnp.asarray(np.random.default_rng(1).normal(size=jax.eval_shape(convolved(strides, padding), x, k).shape))

    @jax.jit
    def ours(x, k, g):
        return (
            depthwise.forward(x, k, strides, padding),
            depthwise.input_cotangent(g, k, x.shape, strides, padding),
            depthwise.kernel_cotangent(g, x, k.shape, strides, padding),
        )

    @jax.jit
    def theirs(x, k, g):
        y, pullback = jax.vjp(convolved(strides, padding), x, k)
        return y, *pullback(g)

    for found, expected in zip(ours(x, k, g), theirs(x, k, g), strict=True):
        assert_close(found, expected)


def convolved(strides, padding):
    return lambda x, k: depthwise.native(x, k, strides, padding)


def test_custom_derivative_agrees_to_second_order(x64):
    x, k = example((5, 4), (3, 2))
    strides, padding = (2, 1), ((1, 1), (0, 1))

    def second(convolution):
        value = lambda x, k: jnp.sum(jnp.sin(convolution(x, k, strides, padding)))
        slope = lambda x, k: sum(jnp.vdot(d, a) for d, a in zip(jax.grad(value, (0, 1))(x, k), (x, k), strict=True))
        forward_over_reverse = lambda x, k: jax.jvp(jax.grad(value, (0, 1)), (x, k), (x, k))[1]
        return jax.jit(lambda x, k: (*jax.grad(slope, (0, 1))(x, k), *forward_over_reverse(x, k)))(x, k)

    for ours, theirs in zip(second(depthwise_convolution), second(depthwise.native), strict=True):
        assert_close(ours, theirs)


def test_a_cotangent_that_is_not_wanted_is_not_computed():
    x, kernel = np.ones((1, 5, 5, 2), np.float32), np.ones((3, 3, 1, 2), np.float32)
    run = lambda x, kernel: jnp.sum(depthwise_convolution(x, kernel, (1, 1), ((1, 1), (1, 1))))
    for grad in (jax.grad, dp.grad):
        both = str(jax.make_jaxpr(grad(run, (0, 1)))(x, kernel))
        one = str(jax.make_jaxpr(grad(run))(x, kernel))
        to_kernel = "f32[3,3,1,2] = call_apart"
        assert to_kernel in both and to_kernel not in one
        np.testing.assert_array_equal(grad(run)(x, kernel), grad(run, (0, 1))(x, kernel)[0])
