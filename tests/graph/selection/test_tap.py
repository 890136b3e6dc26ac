"""A tap changes nothing: the compiled program is the same, to the letter, as without it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from diffprog.graph._selection.tap import tap

X = jnp.linspace(-1.0, 1.0, 12).reshape(3, 4)
W = jnp.linspace(0.5, 1.5, 16).reshape(4, 4)


def network(name):
    def fun(w, x):
        hidden = name(jnp.tanh(x @ w), "hidden")
        return jnp.sum(name(jnp.sin(hidden), "activation") ** 2)

    return fun


def recurrent(name):
    def fun(w, x):
        def step(h, row):
            h = name(jnp.tanh(h @ w + row), "state")
            return h, name(jnp.sum(h), "output")

        h, ys = lax.scan(step, jnp.zeros(4), x)
        return jnp.sum(h) + jnp.sum(ys**2)

    return fun


def branching(name):
    def fun(w, x):
        h = lax.cond(jnp.sum(x) > 0, lambda h: name(jnp.sin(h), "yes"), lambda h: name(h**2, "no"), x @ w)
        h = lax.while_loop(lambda h: jnp.sum(h) < 10, lambda h: name(h * 2 + 1, "turn"), h)
        return jnp.sum(h)

    return fun


TRANSFORMS = {
    "plain": lambda f: f,
    "jit inside": lambda f: lambda w, x: jax.jit(f)(w, x) * 2,
    "vmap": lambda f: jax.vmap(f, (None, 0)),
    "jax.grad": jax.grad,
    "dp.grad": dp.grad,
    "jax.grad of jit": lambda f: jax.grad(jax.jit(f)),
    "dp.grad of jit": lambda f: dp.grad(jax.jit(f)),
    "dp.grad of vmap": lambda f: dp.grad(lambda w, x: jnp.sum(jax.vmap(f, (None, 0))(w, x))),
    "jvp": lambda f: lambda w, x: jax.jvp(lambda w: f(w, x), (w,), (w,)),
    "second order": lambda f: jax.grad(lambda w, x: jnp.sum(dp.grad(f)(w, x) ** 2)),
}


def lowered(fun, *args):
    """Its text, without the function's name."""
    return re.sub(r"module @\S+", "module", jax.jit(fun).lower(*args).as_text())


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("program", [network, recurrent, branching])
def test_the_lowered_program_is_the_same(program, transform):
    if program is branching and transform not in ("plain", "jit inside", "jvp"):
        pytest.skip("a while loop has no gradient in JAX, and ours is compared elsewhere")
    change, unnamed = TRANSFORMS[transform], lambda x, name: x
    x = jnp.stack([X, X]) if "vmap" in transform else X
    with_taps, without = (lowered(change(program(name)), W, x) for name in (tap, unnamed))
    assert with_taps == without


def test_eagerly_it_returns_what_it_got():
    value = {"a": X, "b": [W, 2.0]}
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), tap(value, "pair"), value))


def test_leaves_are_named_by_their_place():
    program = jax.make_jaxpr(lambda x: tap({"a": x, "b": [x, x]}, "pair"))(X)
    assert [e.params["name"] for e in program.eqns] == ["pair['a']", "pair['b'][0]", "pair['b'][1]"]


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_name_is_text(name):
    with pytest.raises(TypeError, match="a tap takes a name"):
        tap(X, name)


def test_only_arrays_are_named():
    with pytest.raises(TypeError, match="a tap names arrays; found 'text' of type str under 'h'"):
        tap([X, "text"], "h")
