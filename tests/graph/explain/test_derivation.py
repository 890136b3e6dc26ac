"""The derivation written out: its formulas, numbers and names; the lecture's is in tests/demos."""

import jax
import jax.numpy as jnp
from jax import lax

import diffprog as dp


def test_parts_at_a_fan_out_and_their_sum():
    def f(x):
        y = jnp.exp(x)
        return x * y

    said = dp.record(f)(jnp.float32(0.0)).backward().explain()
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "y = exp x = 1 test_derivation.py:" + str(f.__code__.co_firstlineno + 1) in lines
    assert lines[-3:] == ["df/dx = df/dy * exp x 0", "+ df/df * y 1", "the sum of what comes from its uses = 1"]


def test_names_of_parameters_taps_and_iterations():
    def loss(parameters, x):
        def body(h, _):
            h = jnp.tanh(parameters["w"] * h)
            return h, None

        h, _ = lax.scan(body, x, None, length=2)
        return dp.tap(jnp.sum(h), "total")

    said = dp.record(loss)({"w": jnp.float32(0.5)}, jnp.ones(2)).backward().explain()
    for wanted in ("parameters['w']", "h[0]", "h[1]", "dtotal/dh[1]"):
        assert wanted in said


def test_large_arrays_are_summarized_and_operations_without_a_formula_named():
    said = dp.record(lambda x: jnp.sum(jnp.fft.rfft(x).real))(jnp.ones(100)).backward().explain()
    assert "1 ± 0 in [1, 1] (100)" in said and "fft(" in said and "the rule of fft" in said


def test_before_backward_only_the_way_forward():
    assert "Backward" not in dp.record(jax.jit(jnp.sin))(1.0).explain()
