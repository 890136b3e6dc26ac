"""Nothing falls back to JAX's own reverse mode: with that out of order, every rule still gives its gradient."""

import sys

import jax
import jax.numpy as jnp
import pytest
from jax._src import api
from jax._src.interpreters import ad

import diffprog as dp
from tests.rules.rows import ROWS
from tests.rules.test_rules import make_args

OUT_OF_ORDER = [
    (jax, "vjp"),
    (jax, "linearize"),
    (jax, "linear_transpose"),
    (jax, "grad"),
    (jax, "value_and_grad"),
    (api, "vjp"),
    (api, "linearize"),
    (api, "linear_transpose"),
    (ad, "vjp"),
    (ad, "linearize"),
    (ad, "linearize_jaxpr"),
    (ad, "backward_pass"),
    (ad, "backward_pass3"),
]


@pytest.fixture
def without_jax_reverse_mode(monkeypatch):
    """A test may still ask for it, and so may `jnp.linalg.solve`, which transposes a product to run at all."""

    def refusing(function):
        def refuse(*args, **kwargs):
            frame = sys._getframe(1)
            while frame.f_globals["__name__"].partition(".")[0] not in ("diffprog", "tests") or frame.f_code is code:
                if frame.f_globals["__name__"].endswith(".solves"):
                    return function(*args, **kwargs)
                frame = frame.f_back
            if frame.f_globals["__name__"].startswith("diffprog"):
                raise AssertionError("JAX's own reverse mode was asked")
            return function(*args, **kwargs)

        code = refuse.__code__
        return refuse

    for module, name in OUT_OF_ORDER:
        if hasattr(module, name):
            monkeypatch.setattr(module, name, refusing(getattr(module, name)))
    jax.clear_caches()


def test_every_rule_gives_its_gradient(without_jax_reverse_mode):
    a_rule = eval("lambda x: jax.vjp(jnp.sin, x)", {"__name__": "diffprog._rules.lazy", "jax": jax, "jnp": jnp})
    with pytest.raises(AssertionError, match="JAX's own reverse mode"):
        a_rule(1.0)

    def gradient(fun, *args):
        result, pullback = dp.vjp(fun, *args)
        return pullback(jax.tree.map(jnp.ones_like, result))

    for row in ROWS:
        if not row.name.endswith("by JAX"):  # these differentiate a gradient that JAX made
            args = make_args(row, jnp.float32)
            jax.eval_shape(lambda *args, row=row: gradient(row.fun, *args), *args)
