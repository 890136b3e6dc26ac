"""Every formula of an elementwise rule, read as Python, against the rule; every primitive of a formula exists."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from diffprog._tracer.rules import rules
from diffprog.graph._explain.formulas import _of_label, _table, formula

BINARY = {
    "add": lax.add,
    "sub": lax.sub,
    "mul": lax.mul,
    "div": lax.div,
    "rem": lax.rem,
    "pow": lax.pow,
    "atan2": lax.atan2,
    "logaddexp": jnp.logaddexp,
    "xlogy": jax.scipy.special.xlogy,
}
UNARY = {
    name: getattr(lax, name)
    for name in (
        "neg",
        "square",
        "sqrt",
        "rsqrt",
        "cbrt",
        "exp",
        "exp2",
        "expm1",
        "log",
        "log1p",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "acosh",
        "atanh",
        "logistic",
        "erf",
        "erfc",
        "erf_inv",
        "lgamma",
        "digamma",
        "abs",
    )
} | {"integer_pow": lambda x: lax.integer_pow(x, 3), "logit": jax.scipy.special.logit}

WORDS = {
    "²": "**2",
    "^": "**",
    "ψ'": "trigamma",
    "ψ": "digamma",
    "√π": "sqrt_pi",
    "erf⁻¹": "erf_inv",
    "log Γ": "lgamma",
    "∛": "cbrt ",
    "√": "sqrt ",
    "|": "'abs'",
}
FUNCTIONS = {
    "sqrt": np.sqrt,
    "cbrt": np.cbrt,
    "log": np.log,
    "exp": np.exp,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "sign": np.sign,
    "trunc": np.trunc,
    "sqrt_pi": np.sqrt(np.pi),
    "digamma": jax.scipy.special.digamma,
    "trigamma": lambda x: jax.scipy.special.polygamma(1, x),
}


def as_python(text: str) -> str:
    for word, python in WORDS.items():
        text = text.replace(word, python)
    text = re.sub(r"tan\*\*2 (\w+)", r"tan(\1)**2", text)
    text = re.sub(r"tanh\*\*2 (\w+)", r"tanh(\1)**2", text)
    text = re.sub(r"\b(sqrt|cbrt|log|exp|sin|cos|tan|sinh|cosh|tanh|sign) (\w+)", r"\1(\2)", text)
    text = re.sub(r"(\d) ([a-z])", r"\1 * \2", text)
    return re.sub(r"(\w|\)) \(", r"\1 * (", text).replace("sqrt * (", "sqrt(").replace("2/sqrt", "2 / sqrt")


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_the_formula_computes_what_the_rule_does(name):
    x = 1.7 if name == "acosh" else 0.4
    arguments = (x,) if name in UNARY else (x, 0.7)
    with jax.enable_x64(True):
        function = {**UNARY, **BINARY}[name]
        recording = dp.record(lambda *args: function(*args) * 1.3)(*map(np.float64, arguments)).backward()
        node = next(n for n in recording.nodes if name in (n.primitive, n.label))
        written = formula(node)
        values = {"x": x, "y": 0.7, "z": float(node.value), "g": 1.3} | FUNCTIONS
        for text, edge in zip(written.backward, node.incoming, strict=True):
            found = eval(as_python(text), {}, values)
            np.testing.assert_allclose(found, edge.gradient, rtol=1e-6, err_msg=text)  # digamma is JAX's, in float32


def test_formulas_are_of_primitives_that_have_a_rule():
    assert set(_table) <= {*rules, "stack", "unstack", "argmax", "argmin", "iota"}
    assert not set(_of_label) & set(_table)


def test_a_formula_uses_the_names_that_are_given():
    recording = dp.record(lambda x, y: jnp.concatenate([x, y])[0] + (x @ y))(jnp.ones(2), jnp.ones(2))
    by_name = {node.primitive: node for node in recording.nodes}
    assert formula(by_name["dot_general"], ["W", "h"], "out", "dL") == ("out = W h", ("dL hᵀ", "Wᵀ dL"))
    assert formula(by_name["concatenate"], ["a", "b"]).forward == "z = (a, b) end to end"
    assert formula(recording.inputs[0]) is None
