import json
import sys
from pathlib import Path

import numpy as np
import pytest

from diffprog.cli import _fit as command

MODULE = """
import jax.numpy as jnp

def make():
    def loss(w, batch):
        return jnp.mean((batch["x"] @ w["slope"] + w["offset"] - batch["y"]) ** 2)
    return loss, ({"slope": jnp.zeros(2), "offset": jnp.zeros(())},)

def three():
    return sum, (1, 2, 3)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    np.savez(tmp_path / "examples.npz", x=x, y=x @ np.array([2.0, -1.0], np.float32) + 0.5)
    (tmp_path / "mylosses.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("mylosses", None)


OPTIONS = ["--data", "examples.npz", "--optimizer", "sgd", "--learning-rate", "0.1", "--batch-size", "8"]


def test_a_loss_of_ones_own_goes_on_in_its_directory(folder, capsys):
    run = lambda epochs, directory: command.main(
        ["mylosses:make", *OPTIONS, "--epochs", epochs, "--directory", directory, "--validation", "examples.npz"]
    )
    run("3", "half")
    run("30", "half")
    printed = capsys.readouterr().out
    run("30", "whole")
    assert "took all 150 steps" in printed and "validation loss" in printed
    found, expected = (dict(np.load(folder / name / "parameters.npz")) for name in ("half", "whole"))
    assert sorted(found) == ["offset", "slope"]
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])
    np.testing.assert_allclose(found["slope"], [2, -1], atol=1e-3)
    rows = [json.loads(line) for line in Path("half/history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 151))
    assert Path("half/curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mylosses:make"], "returns no data: give a file, --data FILE.npz"),
        (["mylosses:make", "--data", "mylosses.py"], "must be an .npz file of arrays"),
        (["mylosses:make", "--data", "nowhere.npz"], "nowhere.npz"),
        (["mylosses:three"], "found 3 arguments"),
        (["mylosses:nothing"], "cannot find mylosses:nothing"),
        (["mylosses:make", "--study"], "either MODULE:NAME or --study"),
    ],
)
def test_bad_input_is_one_sentence(folder, arguments, sentence, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2 and sentence in capsys.readouterr().err


def test_the_study_of_batch_sizes(tmp_path, capsys, monkeypatch):
    digits = command.study.data_sets()["digits"]
    small = digits._replace(plans=((1, 0.03, 1), (32, 0.3, 2), (None, 0.4, 40)))
    monkeypatch.setattr(command.study, "data_sets", lambda: {"digits": small})
    command.main(["--study", "digits", "--seeds", "2", "--out", str(tmp_path / "sizes.png")])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {line[2]: line for line in lines if line[:2] == ["handwritten", "digits"]}
    assert {size: rows[size][4] for size in rows} == {"1": "1,440", "32": "90", "1440": "40"}
    assert {rows[size][5] for size in ("1", "32", "1440")} == {"1,440", "2,880", "57,600"}
    assert float(rows["1"][7]) < 30 and (tmp_path / "sizes.png").read_bytes().startswith(b"\x89PNG")
