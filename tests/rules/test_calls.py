"""Calls of functions: those with options for the compiler, those with a transpose of their own, JAX's older ones."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax._src import core
from jax.custom_derivatives import linear_call
from jax.experimental import checkify, compute_on

import diffprog as dp

Space = jax.memory.Space
X = np.asarray([0.3, -1.2, 2.0])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def assert_same(ours, theirs):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12), ours, theirs)


def names(jaxpr, found=()):
    """(primitive, its parameters) of a jaxpr's equations."""
    return [(eqn.primitive.name, eqn.params) for eqn in jaxpr.eqns]


def divide(x, by):
    return linear_call(lambda by, x: x / by, lambda by, g: 7 * g / by, by, x)


def test_a_linear_call_is_transposed_by_the_user():
    fun = lambda x: jnp.sum(jnp.sin(divide(x, 3.0)) + x)
    assert_same(dp.grad(fun)(X), jax.grad(fun)(X))
    assert_same(dp.grad(fun)(X), 7 * np.cos(X / 3) / 3 + 1)
    assert_same(jax.jit(dp.grad(fun))(X), jax.grad(fun)(X))
    twice = lambda grad: grad(lambda x: jnp.sum(grad(fun)(x) ** 2))(X)
    assert_same(twice(dp.grad), twice(jax.grad))


def test_the_transpose_of_a_transpose_is_the_function():
    _, pullback = dp.vjp(lambda x: divide(x, 2.0), X)
    _, pullback_of_pullback = dp.vjp(lambda g: pullback(g)[0], X)
    assert_same(pullback(X)[0], 7 * X / 2)
    assert_same(pullback_of_pullback(X)[0], X / 2)


def test_a_linear_call_in_its_other_arguments():  # JAX fails at an assertion
    found = dp.grad(lambda x, by: jnp.sum(divide(x, by)), (0, 1))(X, np.asarray([1.0, 2.0, 3.0]))
    assert_same(found, (7 / np.asarray([1.0, 2.0, 3.0]), -X / np.asarray([1.0, 4.0, 9.0])))


def test_optimized_custom_vjp_twice():
    """`optimize_remat` puts the forward rule into a primitive of its own."""
    fun = jax.custom_vjp(jnp.sin)
    fun.defvjp(lambda x: (jnp.sin(x), jnp.cos(x)), lambda cosine, g: (5 * g * cosine,), optimize_remat=True)
    first = dp.grad(lambda x: jnp.sum(fun(x) ** 2))
    assert_same(first(X), 5 * np.sin(2 * X))
    assert_same(dp.grad(lambda x: jnp.sum(first(x)))(X), 10 * np.cos(2 * X))  # JAX fails


def square_on(kind):
    wrap = getattr(compute_on, "compute_on2", compute_on.compute_on)  # its name until JAX 0.11
    return wrap(lambda x, y: jnp.sin(x) * y, compute_type="device_host", out_memory_spaces=kind)


def test_computing_elsewhere():
    fun = lambda x: jnp.sum(square_on(Space.Device)(x, x * x) ** 2)
    assert_same(jax.jit(dp.grad(fun))(X), jax.grad(lambda x: jnp.sum((jnp.sin(x) * x * x) ** 2))(X))
    there = [params for name, params in names(jax.make_jaxpr(dp.grad(fun))(X)) if name == "compute_on"]
    assert [params["compute_type"] for params in there] == ["device_host"] * 2  # forward and backward


def test_results_in_the_memory_of_the_host():
    fun = lambda x: square_on(Space.Host)(x, x * x)
    result, pullback = dp.vjp(jax.jit(fun), jnp.asarray(X))
    assert jax.typeof(result).memory_space == Space.Host
    expected = np.asarray(result) * (X**2 * np.cos(X) + 2 * X * np.sin(X))
    assert_same(pullback(result)[0], expected)  # JAX fails at the memory of the cotangent


def test_calls_with_metadata():
    metadata = pytest.importorskip("jax.experimental.xla_metadata")
    if not hasattr(metadata, "xla_metadata_call2"):
        pytest.skip("since JAX 0.12")
    for there in ("same", "drop", {"tag": "back"}):
        called = metadata.xla_metadata_call2(lambda x: jnp.sin(x) * x, {"tag": "there"}, ad_metadata=there)
        fun = lambda x, called=called: jnp.sum(called(x) ** 2)
        plain = jax.grad(lambda x: jnp.sum((jnp.sin(x) * x) ** 2))(X)
        assert_same(dp.grad(fun)(X), plain)
        assert_same(dp.grad(jax.jit(fun))(X), plain)
        tags = lambda grad: [p["xla_metadata"] for n, p in names(jax.make_jaxpr(grad(fun))(X)) if "metadata" in n]
        assert tags(dp.grad)[0] == (("tag", "there"),)
        assert tags(dp.grad)[-1] == tags(jax.grad)[-1]


def test_fused_calls():
    """They run on GPUs alone; the program that is made for them is looked at, not run."""
    fused = pytest.importorskip("jax.experimental.fused").fused(out_spaces=(Space.Device,))
    program = jax.make_jaxpr(dp.grad(lambda x: jnp.sum(fused(lambda x: jnp.sin(x) * x)(x))))(X)
    assert [name for name, _ in names(program)].count("fused_call") == 2


@pytest.mark.skipif(not hasattr(core, "call"), reason="JAX 0.11 removed them")
def test_closed_calls_are_inlined():
    jaxpr = jax.make_jaxpr(lambda x: x * jnp.sin(x))(X)
    params = core.closed_call_p.get_bind_params({"call_jaxpr": jaxpr})
    called = lambda x: jnp.sum(core.closed_call_p.bind(x, **params)[0])
    expected = np.sin(X) + X * np.cos(X)
    assert_same(dp.grad(called)(X), expected)
    assert_same(dp.grad(jax.jit(called))(X), expected)


def test_checked_functions_with_a_custom_rule():
    """`checkify` hands over a rule that returns a tuple, of as many cotangents as there are arguments and errors."""

    @jax.custom_vjp
    def half(x, y):
        checkify.check(jnp.all(x > 0), "not positive")
        return x * y

    half.defvjp(lambda x, y: (half(x, y), (x, y)), lambda saved, g: (g * saved[1] / 2, g * saved[0]))
    checked = checkify.checkify(lambda x: dp.grad(lambda x: half(jnp.sin(x), 3.0))(x))
    error, gradient = checked(1.0)
    assert error.get() is None
    np.testing.assert_allclose(gradient, 1.5 * np.cos(1.0), rtol=1e-6)
    value = dp.grad(lambda x: checkify.checkify(lambda x: half(x, 3.0))(x)[1])(2.0)
    np.testing.assert_allclose(value, 1.5)


def test_a_cotangent_of_another_dtype_through_a_gather():
    """A custom rule may send bfloat16 back for a value in 8 bits, which JAX does not add up in that type."""

    @jax.custom_vjp
    def widened(x):
        return x

    widened.defvjp(lambda x: (x, None), lambda _, g: (g.astype(jnp.bfloat16),))
    x = jnp.arange(8, dtype=jnp.float8_e4m3fn)
    for take in (lambda x: x[jnp.argsort(-x)], lambda x: lax.dynamic_slice(x, (jnp.int32(2),), (3,))):
        y, pull = dp.vjp(lambda x, take=take: widened(take(x)), x)
        (g,) = pull(jnp.ones(y.shape, x.dtype))
        assert g.dtype == jnp.bfloat16
        np.testing.assert_array_equal(g.astype(np.float32), np.ones(8) if y.size == 8 else [0, 0, 1, 1, 1, 0, 0, 0])
