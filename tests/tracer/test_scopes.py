"""Names of operations in the compiled gradient: both passes stand in the program's scopes, as with `jax.grad`."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import diffprog as dp

X = jnp.asarray([0.3, 1.2, 2.0])


def scoped(name, function):
    return jax.named_scope(name)(function)


def block(x):
    return jnp.exp(scoped("inner", jnp.sin)(x)) * x


def plain(x):
    return jnp.sum(scoped("second", block)(scoped("first", block)(x)))


def in_jit(x):
    return jnp.sum(scoped("first", jax.jit(scoped("second", block)))(x))


def in_scan(x):
    body = lambda c, _: (scoped("second", block)(c), None)
    return jnp.sum(scoped("first", lambda x: lax.scan(body, x, None, length=2)[0])(x))


def in_cond(x):
    return jnp.sum(lax.cond(x[0] > 0, scoped("first", block), scoped("second", block), x))


def in_checkpoint(x):
    return jnp.sum(scoped("first", jax.checkpoint(scoped("second", block)))(x))


@pytest.mark.parametrize("loss", [plain, in_jit, in_scan, in_cond, in_checkpoint])
def test_both_passes_stand_in_the_scopes(loss):
    text = jax.jit(dp.grad(loss)).lower(X).as_text(debug_info=True)
    names = re.findall(r'loc\("([^"]*)"', text)
    backward = [name for name in names if "transpose(jvp" in name]
    assert any("first" in name for name in backward)
    # A call's name says that it belongs to the backward pass, and that of an operation in it where it stands there.
    within = backward if loss is plain else names
    for scope in ("first", "second", "inner"):
        assert any(scope in name and name.endswith(("mul", "cos", "jit", "while", "call_apart")) for name in within), (
            scope,
            within,
        )
    assert any("rematted_computation" in name for name in names) == (loss is in_checkpoint)


def test_scopes_around_the_pullback_are_those_of_the_call():
    """Of the scopes around the function it forgets those that it was run in."""

    def step(x):
        with jax.named_scope("before"):
            y, pull = dp.vjp(scoped("layer", jnp.sin), x)
        with jax.named_scope("after"):
            return pull(y)

    names = re.findall(r'loc\("([^"]*)"', jax.jit(step).lower(X).as_text(debug_info=True))
    assert any(re.search(r"after/transpose\(jvp\(layer\)\)/(mul|cos)$", name) for name in names)
    assert not any("before" in name and "transpose" in name for name in names)
