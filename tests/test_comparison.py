"""`compare` reports what it should: differences that exist, none that do not, and times of both."""

import json

import jax
import jax.numpy as jnp
import numpy as np

import diffprog as dp


def test_equal_gradients():
    report = dp.compare(
        lambda p, n: jnp.sum(jnp.sin(p["w"]) * p["b"]) * n, {"w": jnp.ones((2, 3)), "b": 2.0}, 3, seconds=0
    )
    assert [(leaf.name, leaf.shape) for leaf in report.leaves] == [("args[0]['b']", ()), ("args[0]['w']", (2, 3))]
    assert report.largest_relative < 1e-6
    assert [timing.what for timing in report.timings] == ["eager", "tracing", "compile", "compiled"]
    for timing in report.timings:
        assert timing.ours > 0 and timing.jax > 0 and timing.runs == 3
        assert timing.ratio == timing.ours / timing.jax


def test_a_wrong_gradient_is_seen(monkeypatch):
    from diffprog.rules.table import rules

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
    report = dp.compare(lambda x: {"y": jnp.tanh(x), "n": jnp.arange(3)}, jnp.arange(3.0), seconds=0, name="tree")
    assert report.largest_relative < 1e-6
    assert "tree" in str(report) and "args[0]" in str(report) and "float32[3]" in str(report)


def test_the_report_as_json():
    report = dp.compare(jnp.sin, 1.0, seconds=0)
    read = json.loads(json.dumps(report.as_dict()))
    assert read["leaves"][0]["name"] == "args[0]"
    assert {timing["what"] for timing in read["timings"]} == {"eager", "tracing", "compile", "compiled"}
    assert all(timing["ratio"] > 0 for timing in read["timings"])
