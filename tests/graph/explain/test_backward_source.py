"""The backward pass as Python: run, it gives JAX's gradient; and it can be read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from tests.graph.random_losses import for_each_loss

X = jnp.array([0.3, -0.8, 1.2])


def check(fun, *args, rtol=1e-5):
    source = dp.backward_source(fun)(*args)
    found = source.function()(*jax.tree.leaves(args))
    real = tuple(i for i, x in enumerate(args) if jnp.issubdtype(jnp.result_type(*jax.tree.leaves(x)), jnp.floating))
    expected = jax.tree.leaves(jax.grad(fun, real)(*args))
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6)
    return source


def mlp(parameters, x):
    h = jnp.tanh(x @ parameters["w1"] + parameters["b"])
    y = jax.nn.relu(h @ parameters["w2"])
    return jnp.mean((y - 1.0) ** 2)


def recurrent(x):
    def body(carry, row):
        carry = jnp.tanh(carry * row)
        return carry, jnp.sum(carry)

    return jnp.sum(lax.scan(body, x, jnp.stack([x, 2 * x]), reverse=True)[1])


def indexed(x):
    return jnp.sum(x[jnp.array([0, 2, 0])] ** 2) + x.at[1].set(2.0).sum() + lax.dynamic_slice(x, (1,), (2,)).prod()


PROGRAMS = {
    "mlp": (mlp, {"w1": jnp.ones((3, 4)) / 3, "b": X[:1] * jnp.ones(4), "w2": jnp.ones((4, 2)) / 2}, jnp.ones((5, 3))),
    "recurrent": (recurrent, X),
    "indexed": (indexed, X),
    "branches": (lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x[1]), X),
    "jitted": (jax.jit(lambda x: jnp.sum(jax.jit(jnp.sin)(x) * x)), X),
    "checkpoint": (jax.checkpoint(lambda x: jnp.sum(jnp.exp(jnp.sin(x)))), X),
    "norm and logsumexp": (lambda x: jnp.linalg.norm(x) + jax.nn.logsumexp(x) + jnp.max(x), X),
    "linear algebra": (lambda x: jnp.sum(jnp.linalg.cholesky(jnp.outer(x, x) + 3 * jnp.eye(3))), X),
    "convolution": (
        lambda x, w: jnp.sum(lax.conv(x, w, (1, 1), "SAME") ** 2),
        jnp.ones((1, 2, 5, 5)),
        jnp.ones((3, 2, 3, 3)),
    ),
    "sorted": (lambda x: jnp.sum(jnp.sort(x) * jnp.arange(3.0)), X),
    "masked": (lambda x: jnp.sum(jnp.where(x > 0, x, -jnp.inf)[2] + jnp.clip(x, -0.5, 0.5)), X),
    "whole numbers too": (lambda x, n: jnp.sum(x * n), X, jnp.arange(3)),
    "large constant": (lambda x: jnp.sum(x * jnp.arange(300.0).reshape(100, 3)), X),
    "second order": (lambda x: jnp.sum(dp.grad(lambda y: jnp.sum(jnp.sin(y) * y))(x)), X),
    "random": (lambda x: jnp.sum(x * jax.random.normal(jax.random.key(0), (3,))), X),
    "effect": (lambda x: (jax.debug.print("{}", x), jnp.sum(x * x))[1], X),
    "fixed loop": (lambda x: lax.fori_loop(0, 3, lambda i, y: jnp.sin(y) * x, x).sum(), X),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_text_runs_and_gives_the_gradient(name):
    check(*PROGRAMS[name])


def test_a_while_loop_stays_one():
    def f(x):
        return lax.while_loop(lambda s: jnp.sum(s) < 10, lambda s: s * 1.5, x)[0]

    source = dp.backward_source(lambda x: jnp.sum(x**2) * f(lax.stop_gradient(x)))(jnp.ones(3))
    assert "lax.while_loop(goes_on, body, " in source
    np.testing.assert_allclose(source.function()(jnp.ones(3))[0], 2 * f(jnp.ones(3)) * np.ones(3), rtol=1e-6)


def test_random_programs():
    def run(loss, arguments, expected):
        found = dp.backward_source(loss)(*arguments).function()(*map(jnp.asarray, arguments))
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-8)

    for_each_loss(5, 1, run)


def test_arguments_that_are_called_as_the_modules_of_the_text():
    check(lambda jnp, lax: (jnp * lax).sum() * 2, X, X)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision(dtype):
    f = lambda x: jnp.sum(jnp.tanh(x * 0.1) ** 2).astype(jnp.float32)
    (found,) = dp.backward_source(f)(X.astype(dtype)).function()(X.astype(dtype))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, dp.grad(f)(X.astype(dtype)))


def test_it_can_be_read():
    def loss(w, x):
        h = jnp.tanh(w * x)
        return jnp.sum(h)

    source = check(loss, X, X)
    here = loss.__code__.co_firstlineno
    assert source.startswith('def backward(w, x):\n    """The gradient of loss, forward and back."""\n')
    first = f"    # test_backward_source.py:{here + 1}  h = jnp.tanh(w * x)\n"
    assert f"{first}    t1 = w * x\n    h = lax.tanh(t1)\n" in source
    back = source.index(f"# back through test_backward_source.py:{here + 1}")
    assert "d_h = " in source[:back] and "d_w = " in source[back:] and "return d_w, d_x" in source
    assert source.named == {}


def test_misuse_is_explained():
    with pytest.raises(TypeError, match="real scalar"):
        dp.backward_source(lambda x: x)(X)
    with pytest.raises(TypeError, match="decides by values"):
        dp.backward_source(lambda x: x if x > 0 else -x)(1.0)
