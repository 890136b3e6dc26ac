"""The command line: programs of the list, programs of one's own, and names that are wrong."""

import pytest

from diffprog.cli import _diagnose as command
from diffprog.cli._broken_programs import BROKEN, HEALTHY
from tests.diagnosis.test_corpus import broken

OWN = """\
import jax.numpy as jnp

def length(x):
    return jnp.sqrt(jnp.vdot(x, x))

def mine():
    return length, (jnp.zeros(3),)

def not_a_program():
    return length
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_program.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_list(capsys):
    command.main(["--list"])
    printed = capsys.readouterr().out
    assert f"{len(BROKEN)} broken programs" in printed
    for name, make in (BROKEN | HEALTHY).items():
        assert f"  {name} " in printed and make.__doc__ in printed


def test_a_program_of_the_list(capsys):
    command.main(["masked_distance", "forgotten_bias", "double_where_distance"])
    printed = capsys.readouterr().out
    line = broken["masked_distance"].line
    assert f"born at _broken_programs.py:{line}  distance = jnp.sqrt(squared)" in printed
    assert "safe = jnp.where(squared > 0, squared, 1.0)" in printed
    assert "no gradient: params['b']: never used" in printed
    assert "nothing wrong: the gradient of energy is finite and reaches 1 input" in printed


def test_a_program_of_ones_own(own_module, capsys):
    command.main(["own_program:mine", "--memory", "--compiled"])
    printed = capsys.readouterr().out
    assert "born at own_program.py:4  return jnp.sqrt(jnp.vdot(x, x))" in printed
    assert "the backward pass keeps" in printed
    assert "the gradient of length holds" in printed and "own_program.py:4 (length)" in printed


def test_wrong_names(own_module, capsys):
    assert "did you mean masked_distance" in refused(["masked_distanc"], capsys)
    assert "--list" in refused(["zzz"], capsys)
    assert "cannot find own_program:missing" in refused(["own_program:missing"], capsys)
    assert "must return (function, arguments)" in refused(["own_program:not_a_program"], capsys)
    assert "name a program" in refused([], capsys)
