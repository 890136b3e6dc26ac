"""The demo prints the tree and writes three files with the same graph."""

import xml.etree.ElementTree as ElementTree

import pytest

from diffprog.cli import _record as command


@pytest.mark.parametrize("example, word", [("mlp", "first"), ("rnn", "scan[9]"), ("nan", "NaN")])
def test_prints_the_tree_and_writes_the_files(example, word, tmp_path, capsys):
    command.main(["--example", example, "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert word in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph.dot", "graph.html", "graph.svg"]
    ElementTree.parse(tmp_path / "graph.svg")
    for name in ("graph.dot", "graph.html"):
        assert word in (tmp_path / name).read_text(encoding="utf-8")


def test_a_function_of_the_users_own(tmp_path, capsys, monkeypatch):
    (tmp_path / "mine_to_record.py").write_text(
        "import jax.numpy as jnp\ndef make():\n    return (lambda x: jnp.sum(jnp.arctan(x))), (jnp.arange(3.0),)\n"
    )
    monkeypatch.chdir(tmp_path)
    command.main(["--function", "mine_to_record:make", "--out", "drawn"])
    assert "atan" in capsys.readouterr().out and (tmp_path / "drawn" / "graph.html").is_file()
    with pytest.raises(SystemExit) as stop:
        command.main(["--function", "mine_to_record:make", "--example", "nan"])
    assert stop.value.code == 2
    assert "give either --example or --function" in capsys.readouterr().err


def test_a_glob_without_a_match_is_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["--open", "encoder", "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert "diffprog record: open='encoder' matches no group of nodes; the nearest are" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["--help"])
    assert stop.value.code == 0
    assert "--example" in capsys.readouterr().out
