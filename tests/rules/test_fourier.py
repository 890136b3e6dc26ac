"""The rule of Fourier transforms against `jax.vjp` in float64: every kind, odd and even lengths, one to three axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog._rules import fourier  # noqa: F401  (its rule)
from diffprog._transforms.reverse import vjp

KINDS = {
    "fft": (jnp.fft.fft, (3, 8), complex),
    "ifft, odd": (jnp.fft.ifft, (3, 7), complex),
    "fftn": (jnp.fft.fftn, (2, 3, 4), complex),
    "rfft": (jnp.fft.rfft, (3, 8), float),
    "rfft, odd": (jnp.fft.rfft, (3, 7), float),
    "rfft of length 1": (jnp.fft.rfft, (3, 1), float),
    "rfft2": (jnp.fft.rfft2, (2, 5, 6), float),
    "irfft": (jnp.fft.irfft, (3, 5), complex),
    "irfft, odd": (lambda x: jnp.fft.irfft(x, n=7), (3, 4), complex),
    "irfft2": (lambda x: jnp.fft.irfft2(x, s=(6, 9), norm="ortho"), (2, 6, 5), complex),
    "irfftn": (jnp.fft.irfftn, (3, 4, 3), complex),
}


def values(like, seed):
    random = np.random.default_rng(seed)
    draw = random.normal(size=like.shape)
    return jnp.asarray(draw + 1j * random.normal(size=like.shape) if jnp.iscomplexobj(like) else draw, like.dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_cotangents_agree_with_jax(kind):
    transform, shape, dtype = KINDS[kind]
    with jax.enable_x64(True):
        x = values(jnp.zeros(shape, dtype), 0)
        g = values(jax.eval_shape(transform, x), 1)
        assert_close(*(jax.jit(lambda x, g, vjp=vjp: vjp(transform, x)[1](g)[0])(x, g) for vjp in (vjp, jax.vjp)))


@pytest.mark.parametrize("kind", ["fft", "rfft", "irfft2"])
def test_second_order_agrees_with_jax(kind):
    transform, shape, dtype = KINDS[kind]
    with jax.enable_x64(True):
        x = values(jnp.zeros(shape, dtype), 0)
        g = values(jax.eval_shape(transform, x), 1)
        first = lambda vjp: lambda x: vjp(lambda x: transform(x) ** 2, x)[1](g)[0]
        assert_close(*(jax.jit(lambda x, vjp=vjp: vjp(first(vjp), x)[1](x)[0])(x) for vjp in (vjp, jax.vjp)))


def assert_close(ours, theirs):
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12 * float(jnp.abs(theirs).max()))
