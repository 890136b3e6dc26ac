"""Every remedy that rewrites an expression, done: finite values stay as they are, and the gradient becomes finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog.diagnosis._primitives import CUSTOM_FUNCTIONS, PRIMITIVES
from tests.diagnosis.mending import mended, run

# Expressions, each with a point at which it, or its slope, is not finite.
SINGULAR = [
    ("jnp.sqrt(x)", 0.0),
    ("jax.lax.rsqrt(x)", 0.0),
    ("jnp.cbrt(x)", 0.0),
    ("jnp.log(x)", 0.0),
    ("jnp.log2(x)", 0.0),
    ("jnp.log10(x)", 0.0),
    ("jnp.log1p(x)", -1.0),
    ("x ** 0.5", 0.0),
    ("x ** -1", 0.0),
    ("x ** -2", 0.0),
    ("x ** -1.5", 0.0),
    ("x ** -2.0", 0.0),
    ("jnp.power(x, 0.25)", 0.0),
    ("jnp.power(x, jnp.array([0.5, 0.0, -1.0, 2.0]))", 0.0),
    ("1 / x", 0.0),
    ("jnp.divide(2.0, x)", 0.0),
    ("jnp.sin(x) / x", 0.0),
    ("jnp.reciprocal(x)", 0.0),
    ("jnp.arcsin(x)", 1.0),
    ("jnp.arcsin(x)", -1.0),
    ("jnp.arccos(x)", 1.0),
    ("jnp.arccos(x)", -1.0),
    ("jnp.arctanh(x)", 1.0),
    ("jax.lax.erf_inv(x)", -1.0),
    ("jnp.arccosh(x)", 1.0),
    ("jax.lax.lgamma(x)", 0.0),
    ("jax.lax.digamma(x)", -1.0),
    ("jnp.exp(x)", 200.0),
    ("jnp.exp2(x)", 200.0),
    ("jnp.expm1(x)", 200.0),
    ("jnp.sinh(x)", 200.0),
    ("jnp.cosh(x)", -200.0),
    ("jax.scipy.special.xlogy(2.0, x)", 0.0),
    ("jax.scipy.special.xlog1py(2.0, x)", -1.0),
    ("jax.scipy.special.entr(x)", 0.0),
]
GRID = np.unique(
    np.concatenate([np.linspace(-4, 4, 81), [-200, -100, -1e-20, 1e-20, 60, 79.9, 85, 88.7, 119, 127.9, 200]])
).astype(np.float32)


@pytest.mark.parametrize("expression, point", SINGULAR)
def test_a_rewritten_expression_keeps_its_finite_values(expression, point, tmp_path):
    text = f"""\
import jax
import jax.numpy as jnp

def program():
    def hidden(x):
        y = {expression}
        return jnp.sum(jnp.where(jnp.abs(x - {point}) > 0, y, 0.0))

    def written(x):
        y = {expression}
        return y

    return hidden, written
"""
    hidden, written = run(text, tmp_path / "as_written.py")
    x = jnp.full(4, point, jnp.float32)
    (finding,) = (f for f in dp.diagnose(hidden)(x).findings if f.kind == "nan")
    assert finding.source.line == 6 and "->" in finding.fix, str(finding)
    fixed = mended(finding.fix, text, 6)
    fixed = mended(finding.fix, fixed, fixed.splitlines().index(f"        y = {expression}") + 1)
    fixed_hidden, fixed_written = run(fixed, tmp_path / "mended.py")
    assert np.all(np.isfinite(jax.grad(fixed_hidden)(x))), finding.fix
    grid = jnp.asarray(np.repeat(GRID[:, None], 4, 1))
    before, after = np.asarray(written(grid)), np.asarray(fixed_written(grid))
    finite = np.isfinite(before)
    assert finite.any()
    np.testing.assert_array_equal(after[finite], before[finite], finding.fix)


def test_every_primitive_with_such_a_remedy_is_tried():
    tried = {
        eqn.primitive.name
        for expression, _ in SINGULAR
        for eqn in _equations(jax.make_jaxpr(lambda x: eval(expression, {"x": x, "jax": jax, "jnp": jnp}))(jnp.ones(4)))
    }
    unknown = set() if hasattr(jax.lax, "log2_p") else {"log2"}  # a primitive since JAX 0.11
    assert {name for name, record in PRIMITIVES.items() if record.safe is not None} - unknown <= tried
    assert all(any(record.written_as[0] in text for text, _ in SINGULAR) for record in CUSTOM_FUNCTIONS.values())


def _equations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for value in eqn.params.values():
            if hasattr(value, "eqns"):
                yield from _equations(value)


def test_the_angle_of_the_origin_keeps_its_value():
    (finding,) = dp.diagnose(lambda y, x: jnp.arctan2(y, x))(0.0, 0.0).findings
    advice = finding.fix.partition(": ")[2]
    for y in (0.0, -0.0, 1.0, -2.0):
        for x in (0.0, -0.0, 1.0, -2.0):
            names = {"jnp": jnp, "y": jnp.float32(y), "x": jnp.float32(x)}
            np.testing.assert_allclose(eval(advice, names), np.arctan2(np.float32(y), np.float32(x)), rtol=1e-6)


@pytest.mark.parametrize("exponent, value", [(0.0, 1.0), (0.5, 0.0), (2.0, 0.0)])
def test_zero_to_a_power_keeps_its_value(exponent, value, tmp_path):
    text = f"def program():\n    return lambda x: x**{exponent}, ()\n"
    fun, _ = run(text, tmp_path / "power.py")
    findings = [f for f in dp.diagnose(fun)(0.0).findings if f.kind == "nan"]
    if findings:  # 0 ** 0 has the slope 0 of a constant, where its rule says so
        advice = findings[0].fix.splitlines()
        scope = {"jnp": jnp, "x": jnp.float32(0.0)}
        exec(advice[1], scope)
        assert eval(advice[2].partition("->")[2], scope) == value


def test_complex_numbers_are_not_compared():
    fun = lambda x: jnp.sum(jnp.abs(jnp.where(jnp.array([True, False]), jnp.sqrt(x), 0.0)))
    (finding,) = (f for f in dp.diagnose(fun)(jnp.array([1.0 + 1j, 0j])).findings if f.kind == "nan")
    assert "x != 0" in finding.fix and ">  jnp.where(x > 0" not in finding.fix
