"""`dp.defvjp`: a user's own primitive, in ten lines, under every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

import diffprog as dp
from diffprog._tracer.rules import rules


@pytest.fixture
def softplus(monkeypatch):
    """log(1 + exp(scale x)) / scale as a primitive that JAX itself cannot differentiate."""
    primitive = Primitive("test_softplus")
    formula = lambda x, *, scale: jnp.logaddexp(scale * x, 0.0) / scale
    primitive.def_impl(formula)
    primitive.def_abstract_eval(lambda x, *, scale: x)
    mlir.register_lowering(primitive, mlir.lower_fun(formula, multiple_results=False))
    batching.defvectorized(primitive)
    monkeypatch.delitem(rules, "test_softplus", raising=False)
    dp.defvjp(primitive, lambda y, x, *, scale: lambda g: g * jax.nn.sigmoid(scale * x))
    yield lambda x, scale=2.0: primitive.bind(x, scale=scale)
    rules.pop("test_softplus")


def test_a_primitive_of_ones_own_composes_with_everything(softplus):
    x = jnp.linspace(-1.0, 1.0, 5)
    with pytest.raises(NotImplementedError, match="Differentiation rule"):
        jax.grad(softplus)(0.5)
    loss = lambda x: jnp.sum(softplus(x) ** 2)
    closed = lambda x: jnp.sum((jnp.logaddexp(2 * x, 0.0) / 2) ** 2)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5)
    close(dp.grad(loss)(x), jax.grad(closed)(x))
    close(jax.jit(dp.grad(loss))(x), jax.grad(closed)(x))
    close(jax.vmap(dp.grad(softplus))(x), jax.nn.sigmoid(2 * x))
    close(dp.grad(lambda x: jnp.sum(dp.grad(loss)(x)))(x), jax.grad(lambda x: jnp.sum(jax.grad(closed)(x)))(x))
    close(dp.grad(lambda x: jnp.sum(jax.lax.map(softplus, x)))(x), jax.nn.sigmoid(2 * x))


def test_an_argument_that_is_not_wanted_costs_nothing(monkeypatch):
    asked = []
    primitive = Primitive("test_times")
    primitive.def_impl(lambda x, y: x * y)

    def maker(which):
        return lambda z, x, y: asked.append(which) or (lambda g: g * (y if which == "x" else x))

    dp.defvjp(primitive, maker("x"), maker("y"))
    try:
        assert dp.grad(lambda x: primitive.bind(x, 3.0))(2.0) == 3.0
        assert asked == ["x"]
        assert dp.grad(lambda x, y: primitive.bind(x, y), (0, 1))(2.0, 5.0) == (5.0, 2.0)
        with pytest.raises(TypeError, match=r"defined for 2 arguments, but .* called with 1"):
            dp.grad(lambda x: primitive.bind(x))(2.0)
    finally:
        rules.pop("test_times")


def test_a_rule_is_not_replaced_by_accident():
    sine = rules["sin"]
    with pytest.raises(ValueError, match="'sin' has a rule already"):
        dp.defvjp("sin", lambda y, x, **_: lambda g: g)
    with pytest.raises(TypeError, match="found 3"):
        dp.defvjp("test_nothing", 3)
    try:
        dp.defvjp("sin", lambda y, x, **_: lambda g: 7 * g, replace=True)
        assert dp.grad(lambda x: jax.lax.sin(x))(0.0) == 7.0
    finally:
        rules["sin"] = sine
