"""Cotangents of a dtype of the user's own add up as the dtype says: here the largest is the sum."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import core, lax
from jax._src import dtypes

import diffprog as dp
from tests.transforms.test_reverse import assert_same


class scale(dtypes.extended):
    pass


class Rules:
    allow_conversion = True

    @staticmethod
    def physical_element_aval(dtype):
        return core.ShapedArray((), dtype.stored)

    @staticmethod
    def add(dtype, x, y):
        return convert(lax.max(convert(x, dtype.stored), convert(y, dtype.stored)), dtype)

    @staticmethod
    def zero(dtype):
        return convert(np.array(-np.inf, dtype.stored), dtype)

    @staticmethod
    def tangent_dtype(dtype):
        return dtype


@dataclasses.dataclass(frozen=True)
class Scale(dtypes.ExtendedDType):
    stored: np.dtype
    name: str = "scale"
    _rules: type = Rules
    type: type = scale


def convert(x, dtype):
    return lax.convert_element_type(x, dtype)


SCALE = Scale(np.dtype("float32"))


@jax.custom_vjp
def watched(x, largest):
    """Return x; the gradient with respect to `largest` is the largest cotangent of x, over all calls."""
    return x


watched.defvjp(lambda x, largest: (x, None), lambda _, g: (g, convert(jnp.max(g).astype(jnp.float32), SCALE)))


PROGRAMS = {
    "twice": lambda x, s: watched(3.0 * x, s) * watched(x, s),
    "scan": lambda x, s: lax.scan(lambda x, _: (watched(2.0 * x, s), None), x, length=3)[0],
    "unused in a branch": lambda x, s: lax.cond(x > 1.0, lambda: watched(x, s) * 5.0, lambda: x) + watched(x, s),
    "jitted": lambda x, s: jax.jit(lambda x, s: watched(jnp.sin(jnp.exp(x)) * watched(x, s), s))(x, s),
    "checkpointed": lambda x, s: jax.checkpoint(lambda x: watched(jnp.sin(x), s) * watched(x, s))(x),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_largest_cotangent(name):
    def fun(x, largest):
        return PROGRAMS[name](x, convert(largest, SCALE))

    args = jnp.float32(1.5), jnp.float32(0.0)
    ours, theirs = (jax.jit(d.grad(fun, (0, 1)))(*args) for d in (dp, jax))
    assert_same(ours, theirs)
    assert ours[1] > 0


def test_loop_of_unknown_length():
    """JAX refuses it: the same loop of known length is the reference."""

    def fun(x, largest):
        s = convert(largest, SCALE)
        return lax.while_loop(lambda x: x < 10.0, lambda x: watched(2.0 * x, s), x)

    def known(x, largest):
        s = convert(largest, SCALE)
        return lax.fori_loop(0, 3, lambda i, x: watched(2.0 * x, s), x)

    args = jnp.float32(1.5), jnp.float32(0.0)
    assert_same(jax.jit(dp.grad(fun, (0, 1)))(*args), jax.jit(jax.grad(known, (0, 1)))(*args))
