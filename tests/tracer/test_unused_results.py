"""Results that nobody uses have no cotangent: their part of the backward pass falls away, with its infinite slopes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from tests.transforms.test_reverse import assert_same

root = lambda x: (jnp.sin(x) * x + 2 * x - jnp.cos(x) * x, jnp.sqrt(x))  # its second result has no slope at zero


def scanned(x):
    """The first carried value gets no cotangent until the second has one; the third never gets one; nor the ys."""

    def body(carry, k):
        a, b, c = carry
        return (a * k, b + a * jnp.sin(b), jnp.sqrt(c)), jnp.sqrt(a * 0 + c)

    return lax.scan(body, (x, x, x), jnp.arange(1.0, 4.0))[0][1]


@jax.custom_vjp
def told(x, y):
    return jnp.sin(x) * y, jnp.sqrt(x) + y, x * y * x


def _told_backward(residuals, g):
    zeros = [type(g) is jax.custom_derivatives.SymbolicZero for g in g]
    return 3 * g[0], (5 if zeros == [False, True, True] else 1000) * g[0]


told.defvjp(lambda x, y: (told(x.value, y.value), (x.value, y.value)), _told_backward, symbolic_zeros=True)

UNUSED = {
    "jit": lambda x: jax.jit(root)(x)[0],
    "jit in jit": lambda x: jax.jit(lambda x: jax.jit(lambda x: (*root(x), x))(x * 2 + jnp.sin(x) * x))(x)[0],
    "checkpoint": lambda x: jax.checkpoint(root)(x)[0],
    "checkpoint with a policy": lambda x: jax.checkpoint(
        lambda x: root(jnp.sin(x)), policy=lambda primitive, *_, **__: primitive.name in ("sin", "sqrt")
    )(x)[0],
    "scan": scanned,
    "reversed scan": lambda x: lax.scan(lambda c, k: (c, root(x * k)), None, jnp.arange(3.0), reverse=True)[1][0][1],
    "fori_loop": lambda x: lax.fori_loop(0, 3, lambda i, c: (c[0] * 2, jnp.sqrt(x)), (x, x))[0],
    "cond": lambda x: lax.cond(x < 1, root, lambda x: (x, x), x)[0],
    "cond, unequal dependence": lambda x: lax.switch(
        1, [lambda x, y: (y, x), lambda x, y: (x * 2, jnp.sqrt(y)), lambda x, y: (1.0, 2.0)], x, x
    )[0],
    "all of them": lambda x: jax.jit(
        jax.checkpoint(
            lambda x: lax.scan(
                lambda c, k: (
                    lax.cond(k > 1, lambda c: (root(c[0])[0], jnp.sqrt(c[1])), lambda c: c, c),
                    jnp.sqrt(c[1]),
                ),
                (x, x),
                jnp.arange(4.0),
            )
        )
    )(x)[0][0],
    "custom_vjp in jit": lambda x: jax.jit(lambda x: told(x + jnp.sin(x) * x * x, x))(x)[0],
}


@pytest.mark.parametrize("name", UNUSED)
def test_no_slope_of_what_is_not_used(name):
    fun = UNUSED[name]
    expected = jax.jit(jax.grad(fun))(0.0)
    assert np.isfinite(expected)
    assert_same(jax.jit(dp.grad(fun))(0.0), expected)


@pytest.mark.parametrize("name", ["checkpoint with a policy", "all of them"])
def test_eagerly_and_twice(name):
    fun = UNUSED[name]
    assert_same(dp.grad(fun)(0.0), jax.grad(fun)(0.0))
    twice = lambda grad: jax.jit(grad(lambda x: jnp.sin(grad(fun)(x))))(0.25)
    assert_same(twice(dp.grad), twice(jax.grad))


def test_the_backward_pass_of_what_is_not_used_is_not_run():
    called = jax.jit(lambda x: (jnp.sin(jnp.exp(x)) * 2 + x * x * x, jnp.tan(jnp.tanh(x)) @ x, jnp.linalg.norm(x)))
    size = lambda f: len(str(jax.make_jaxpr(dp.grad(f))(jnp.ones(3))))
    assert size(lambda x: jnp.sum(called(x)[0])) < 0.75 * size(lambda x: sum(map(jnp.sum, called(x))))


def test_a_pullback_for_other_cotangents():
    """The same forward pass serves every choice of cotangents."""
    _, pullback = dp.vjp(lambda x: jax.jit(lambda x: (*root(x), x * x * x))(x), 4.0)
    _, theirs = jax.vjp(lambda x: jax.jit(lambda x: (*root(x), x * x * x))(x), 4.0)
    for given in ((1.0, 0.0, 0.0), (0.0, 1.0, 2.0), (1.0, 1.0, 1.0)):
        assert_same(pullback(given), theirs(given))
