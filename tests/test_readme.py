"""The README's examples run, in the order in which they are read."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from diffprog import fit, models
from diffprog.visualize import logit

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def examples(section):
    """The Python of a section, one text a block."""
    text = re.search(rf"^## {section}.*?\n(.*?)(?=^## )", README, re.M | re.S).group(1)
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


def run(section, names):
    for number, source in enumerate(examples(section)):
        exec(compile(source, f"README.md:{section}:{number}", "exec"), names)
    return names


def test_differentiate_and_see(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = run("Differentiate", {})
    value, gradient = jax.value_and_grad(names["loss"])(names["w"], names["x"])
    np.testing.assert_allclose(names["value"], value, rtol=1e-6)
    np.testing.assert_allclose(names["gradient"], gradient, rtol=1e-6)
    run("See", names)
    np.testing.assert_allclose(names["recording"]["hidden"].gradient, 2 * np.tanh(names["w"] @ names["x"]), rtol=1e-6)
    assert "NaN in the backward pass" in capsys.readouterr().out


def test_attack(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    _, test = fit.load_digits()
    images, labels = test.inputs[:8].reshape(-1, 8, 8, 1), test.labels[:8]
    names = run(
        "Attack", {"model": models.load("digits"), "images": images, "labels": labels, "key": jax.random.key(0)}
    )
    assert names["result"].distances["linf"].max() <= 8 / 255
    assert (tmp_path / "out/robustness").is_dir()


def test_attribute(capsys):
    _, test = fit.load_digits()
    images, labels = test.inputs[:4].reshape(-1, 8, 8, 1), test.labels[:4]
    names = run("Differentiate", {"model": models.load("digits"), "images": images, "labels": labels, "logit": logit})
    run("Attribute", names)
    result = names["result"]
    assert np.asarray(result.converged).all()
    logits = np.asarray(names["model"](images))[np.arange(4), labels]
    total = np.asarray(result.values, np.float64).sum(axis=(1, 2, 3)) + result.baseline_score + result.gap
    np.testing.assert_allclose(total, logits, rtol=1e-4)
    assert names["picture"].ndim == 3 and "(clean)" in capsys.readouterr().out


def test_optimize_and_fit(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    names = run("Differentiate", {"key": jax.random.key(0)})
    run("Optimize", names)
    assert (
        names["found"].converged
        and names["found"].value < 1e-6
        and "diverges from step size" in capsys.readouterr().out
    )
    assert (tmp_path / "out/run/history.jsonl").is_file()
    logits = fit.mlp.apply(names["fitted"].parameters, names["test"].inputs)
    assert fit.accuracy(logits, names["test"].labels) > 0.85


@pytest.mark.slow
def test_visualize():
    names = {}
    run("Differentiate", names)
    run("Visualize", names)
