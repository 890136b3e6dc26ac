"""`compare` reports what it should: differences that exist, none that do not, and times of both."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from diffprog import _comparison as comparison
from diffprog._tracer.rules import rules


def test_equal_gradients():
    report = dp.compare(
        lambda p, n: jnp.sum(jnp.sin(p["w"]) * p["b"]) * n, {"w": jnp.ones((2, 3)), "b": 2.0}, 3, seconds=0
    )
    assert [(leaf.name, leaf.shape) for leaf in report.leaves] == [("args[0]['b']", ()), ("args[0]['w']", (2, 3))]
    assert report.largest_relative < 1e-6
    assert [timing.stage for timing in report.timings] == ["eager", "tracing", "compile", "compiled"]
    for timing in report.timings:
        assert timing.ours > 0 and timing.jax > 0 and timing.num_runs == 3
        assert timing.ratio == timing.ours / timing.jax


def test_a_wrong_gradient_is_seen(monkeypatch):
    right = rules["sin"]

    def wrong(*args):
        y, pull = right(*args)
        return y, lambda g: tuple(1.25 * x for x in pull(g))

    monkeypatch.setitem(rules, "sin", wrong)
    jax.clear_caches()
    (leaf,) = dp.compare(lambda x: jnp.sum(jnp.sin(x)), jnp.zeros(3), seconds=0).leaves
    np.testing.assert_allclose([leaf.absolute, leaf.relative], [0.25, 0.25], rtol=1e-6)
    monkeypatch.undo()
    jax.clear_caches()


def test_results_that_are_no_scalar():
    report = dp.compare(
        lambda x: {"y": jnp.tanh(x), "n": jnp.arange(3)}, jnp.arange(3, dtype=jnp.float32), seconds=0, name="tree"
    )
    assert report.largest_relative < 1e-6
    assert "tree" in str(report) and "args[0]" in str(report) and "float32[3]" in str(report)


def test_the_report_as_json():
    report = dp.compare(jnp.sin, 1.0, seconds=0)
    read = json.loads(json.dumps(report.as_dict()))
    assert read["leaves"][0]["name"] == "args[0]"
    assert {timing["stage"] for timing in read["timings"]} == {"eager", "tracing", "compile", "compiled"}
    assert all(timing["ratio"] > 0 for timing in read["timings"])


def cube_root(x, n):
    """By Newton's method; the loop is one that JAX does not reverse."""
    step = lambda y: y - (y**3 - x["a"]) / (3 * y**2)
    return {"root": lax.fori_loop(0, n, lambda i, y: step(y), jnp.ones_like(x["a"])), "n": n}


def test_where_jax_has_no_gradient():
    report = dp.compare(cube_root, {"a": jnp.array([0.5, 2.0, 3.0], jnp.float32)}, 9, seconds=0)
    assert report.jax_error.startswith("ValueError: Reverse-mode differentiation does not work for lax.while_loop")
    assert [leaf.name for leaf in report.leaves] == ["args[0]['a']"]
    assert report.largest_relative < 1e-3  # what central differences in float32 reach
    assert all(timing.ours > 0 and timing.jax is None and timing.ratio is None for timing in report.timings)
    assert "jax raises ValueError" in str(report) and "central differences, step 5e-03 in float32" in str(report)
    assert json.loads(json.dumps(report.as_dict()))["jax_error"] == report.jax_error


@pytest.fixture
def untimed(monkeypatch):
    monkeypatch.setattr(comparison, "_timings", lambda *_: [])


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_central_differences_in_double_precision(dtype, untimed):
    with jax.enable_x64(True):
        x = jnp.asarray(np.array([0.5, 2.0, 3.0]) * (1 + 0.3j if dtype == np.complex128 else 1), dtype)
        report = dp.compare(cube_root, {"a": x}, 9)
    assert report.jax_error and report.largest_relative < 1e-9
    assert report.leaves[0].dtype == np.dtype(dtype).name


def test_a_wrong_gradient_is_seen_without_jax(untimed, monkeypatch):
    right = rules["integer_pow"]

    def wrong(*args):
        y, pull = right(*args)
        return y, lambda g: tuple(1.25 * x for x in pull(g))

    monkeypatch.setitem(rules, "integer_pow", wrong)
    report = dp.compare(cube_root, {"a": jnp.array([0.5, 2.0, 3.0])}, 2)
    assert report.jax_error and report.largest_relative > 0.05


def bisection(theta, loop):
    def halve(bracket, _):
        low, high = bracket
        middle = (low + high) / 2
        above = middle**2 > theta
        return (jnp.where(above, low, middle), jnp.where(above, middle, high)), None

    if loop is lax.scan:
        return lax.scan(halve, (0.0, 4.0), None, length=40)[0][0] + theta
    return lax.while_loop(lambda b: b[1] - b[0] > 1e-5, lambda b: halve(b, None)[0], (0 * theta, 4.0))[0] + theta


@pytest.mark.parametrize("loop", [lax.scan, lax.while_loop])
def test_a_bisection_is_seen_to_be_missed_by_both(loop, untimed):
    report = dp.compare(lambda theta: bisection(theta, loop), 2.0)
    by_differences, by_gradients = report.missed
    np.testing.assert_allclose(by_differences, 2 * (1 + 0.5 / 2**0.5), rtol=0.02)  # theta times the derivative
    assert by_gradients == 2.0
    who = "both" if loop is lax.scan else "ours"
    assert f"finite differences disagree with {who}" in str(report)
    assert json.loads(json.dumps(report.as_dict()))["missed"] == list(report.missed)


@pytest.mark.parametrize(
    "fun, x",
    [
        (lambda x: jnp.sum(jax.nn.relu(x) ** 2 + jnp.clip(x, -0.5, 0.5)), np.sin(np.arange(40.0))),
        (lambda x: jnp.sum(jnp.sort(jnp.sin(30 * x)) * np.arange(9.0)), np.linspace(0, 1, 9)),
        (lambda x: lax.while_loop(lambda y: abs(y * y - x) > 1e-4, lambda y: (y + x / y) / 2, 1.0), 2.0),
        (lambda x: jnp.sum(jnp.round(3 * x)), np.array([0.2, 0.4])),
        (lambda x: jnp.exp(20 * x), 1.0),
        (lambda x: jnp.abs(x), 0.001),
    ],
)
def test_nothing_is_missed_of_other_functions(fun, x, untimed):
    assert dp.compare(fun, x).missed is None
