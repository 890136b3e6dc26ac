"""How much a compiled gradient computes: XLA's CPU backend runs elementwise chains again for each of their readers."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from diffprog._rules import convolutions

rng = np.random.default_rng(0)
FAST = ("NHWC", "HWIO", "NHWC")


def residual_layers(weights, x):
    for w in weights:
        centered = x - x.mean(-1, keepdims=True)
        normal = centered * lax.rsqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
        x = x + jnp.tanh(normal @ w)
    return (x**2).sum()


def operations(depth: int) -> int:
    """Count the elementwise operations of the compiled gradient by all weights."""
    weights = [jax.ShapeDtypeStruct((16, 16), np.float32)] * depth
    text = jax.jit(dp.grad(residual_layers)).lower(weights, jax.ShapeDtypeStruct((32, 16), np.float32)).compile()
    return len(re.findall(r" (?:add|multiply|negate|subtract)\(", text.as_text()))


def test_work_grows_with_the_depth_along_residual_connections():
    # By jax.grad layers 5 to 8 add 392 operations, layers 9 to 12 add 584.
    assert operations(9) - operations(6) == operations(6) - operations(3) > 0


def convolve(x, kernel, **options):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=FAST, **options)


@pytest.mark.parametrize("size, is_apart", [(8, False), (64, True)])
def test_kernel_cotangents_of_large_images_are_calls_apart(size, is_apart):
    x = jnp.asarray(rng.normal(size=(2, size, size, 8)), np.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 8, 4)), np.float32)
    loss = lambda kernel: (jnp.tanh(convolve(x, kernel)) ** 2).sum()
    compiled = jax.jit(dp.grad(loss)).lower(kernel).compile()
    assert (" call(" in compiled.as_text()) == is_apart
    expected = jax.grad(loss)(kernel)
    np.testing.assert_allclose(compiled(kernel), expected, rtol=1e-4, atol=1e-4 * float(abs(expected).max()))


@pytest.mark.parametrize(
    "options",
    [
        {"window_strides": (2, 3), "padding": ((1, 0), (2, 2))},
        {"feature_group_count": 2},
        {"batch_group_count": 2},
        {"lhs_dilation": (2, 1), "rhs_dilation": (1, 2)},
        {"dimension_numbers": ("NCHW", "OIHW", "NHWC")},
    ],
    ids=lambda options: next(iter(options)),
)
def test_kernel_cotangents_apart_are_those_of_jax(options, monkeypatch):
    monkeypatch.setattr(convolutions, "_LARGE", 0)
    options = {"window_strides": (1, 1), "padding": ((1, 1), (1, 1)), "dimension_numbers": FAST} | options
    channels_first = options["dimension_numbers"] != FAST
    channels_in = 4 // options.get("feature_group_count", 1)
    x = rng.normal(size=(2, 4, 7, 6) if channels_first else (2, 7, 6, 4))
    kernel = rng.normal(size=(4, channels_in, 3, 3) if channels_first else (3, 3, channels_in, 4))

    def derivatives(grad, kernel, x):
        loss = lambda kernel: (lax.conv_general_dilated(x, kernel, **options) ** 2).sum()
        several = jnp.stack([kernel, -2 * kernel])
        return jax.vmap(grad(loss))(several), jax.jvp(grad(loss), (kernel,), (jnp.cos(kernel),))

    with jax.enable_x64(True):
        ours, theirs = (jax.jit(partial(derivatives, grad))(kernel, x) for grad in (dp.grad, jax.grad))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12), ours, theirs)
