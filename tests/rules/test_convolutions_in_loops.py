"""Convolutions in loops, branches and calls: in the layout that the CPU backend is fast at, with the same values."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp

rng = np.random.default_rng(0)
KERNELS = rng.normal(size=(3, 3, 3, 4, 4)).astype(np.float32) / 6
IMAGES = rng.normal(size=(2, 8, 8, 4)).astype(np.float32)
FAST = ("NHWC", "HWIO", "NHWC")


def convolve(x, kernel, numbers=FAST, **options):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers, **options)


def layer(x, kernel):
    return x + jnp.tanh(convolve(x, kernel))


def in_scan(kernels, x):
    return lax.scan(lambda x, kernel: (layer(x, kernel), None), x, kernels)[0]


def in_scan_channels_first(kernels, x):
    kernels, x = jnp.transpose(kernels, (0, 4, 3, 1, 2)), jnp.transpose(x, (0, 3, 1, 2))
    layer = lambda x, kernel: (x + jnp.tanh(convolve(x, kernel, ("NCHW", "OIHW", "NCHW"))), None)
    return jnp.transpose(lax.scan(layer, x, kernels)[0], (0, 2, 3, 1))


def in_scan_grouped(kernels, x):
    layer = lambda x, kernel: (x + jnp.tanh(convolve(x, kernel[:, :, :2], feature_group_count=2)), None)
    return lax.scan(layer, x, kernels)[0]


def in_while(kernels, x):
    step = lambda state: (state[0] + 1, layer(state[1], kernels[state[0]]))
    return lax.while_loop(lambda state: state[0] < 3, step, (0, x))[1]


def in_branch(kernels, x):
    return lax.cond(x[0, 0, 0, 0] > 9, lambda x: x, lambda x: layer(x, kernels[0]), x)


def in_checkpoint(kernels, x):
    return jax.checkpoint(lambda kernels, x: layer(layer(x, kernels[0]), kernels[1]))(kernels, x)


def in_nested_scan(kernels, x):
    return lax.scan(lambda x, _: (in_scan(kernels, x), None), x, None, length=2)[0]


LOOPS = [in_scan, in_scan_channels_first, in_scan_grouped, in_while, in_branch, in_checkpoint, in_nested_scan]


def unrolled(loop):
    """The same loss by a loop that Python runs, as an oracle for loops that JAX refuses."""
    return in_scan if loop is in_while else loop


def derivatives(grad, loop, kernels, images):
    """The gradient under vmap of either argument, and second derivatives of both kinds."""
    loss = lambda kernels, x: jnp.sum(loop(kernels, x) ** 2)
    return {
        "of each image": jax.vmap(lambda image: grad(loss, 1)(kernels, image[None]))(images),
        "of each kernel": jax.vmap(lambda kernels: grad(loss)(kernels, images))(jnp.stack([kernels, 2 * kernels])),
        "along": jax.jvp(lambda x: grad(loss, 1)(kernels, x), (images,), (images,))[1],
        "twice": grad(lambda kernels: jnp.sum(grad(loss)(kernels, images) ** 2))(kernels),
    }


@pytest.mark.parametrize("loop", LOOPS)
def test_gradients_are_those_of_jax(loop):
    with jax.enable_x64(True):
        args = jnp.asarray(KERNELS, np.float64), jnp.asarray(IMAGES, np.float64)
        loss = lambda f: lambda *args: jnp.sum(f(*args) ** 2)
        ours, theirs = dp.grad(loss(loop), (0, 1))(*args), jax.grad(loss(unrolled(loop)), (0, 1))(*args)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
        found, expected = (
            jax.jit(partial(derivatives, grad, f))(*args) for grad, f in ((dp.grad, loop), (jax.grad, unrolled(loop)))
        )
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-11, atol=1e-11, err_msg=name)
        if loop is not in_while:
            over = jax.jit(jax.grad(lambda k: jnp.sum(dp.grad(loss(loop))(k, args[1]) ** 2)))(args[0])
            np.testing.assert_allclose(over, expected["twice"], rtol=1e-11, atol=1e-11)


def convolution_layouts(text):
    """Find the layouts of the convolutions in a program's text."""
    return set(re.findall(r"dim_numbers = (\[.*?\]x\[.*?\]->\[.*?\])", text))


@pytest.mark.parametrize("loop", [in_scan, in_scan_channels_first, in_while, in_checkpoint])
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other backends read layouts as they find them")
def test_layouts_are_the_fast_one_on_a_cpu(loop):
    text = jax.jit(dp.grad(lambda *args: jnp.sum(loop(*args) ** 2), (0, 1))).lower(KERNELS, IMAGES).as_text()
    assert convolution_layouts(text) == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}


def test_a_convolution_outside_of_loops_is_left_alone():
    loss = lambda kernels, x: jnp.sum(layer(x, kernels[0]) ** 2)
    ours, theirs = (jax.jit(grad(loss, (0, 1))).lower(KERNELS, IMAGES).as_text() for grad in (dp.grad, jax.grad))
    assert convolution_layouts(ours) == convolution_layouts(theirs)
