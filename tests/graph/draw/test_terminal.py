"""The tree for the terminal."""

import pytest

from benchmarks.synthetic_graphs import chain_rows, recording
from diffprog.graph._draw import text
from diffprog.graph._recording.summaries import summarize
from tests.graph.draw import programs


def test_lines_have_the_numbers():
    r = programs.mlp()
    lines = text(r, width=160).split("\n")
    assert lines[0].startswith(f"loss: {len(r.nodes)} nodes")
    for node in r.nodes:
        if node.primitive == "tanh":
            (line,) = [line for line in lines if f"─ {node.index} " in line and "tanh" in line]
            assert f"f32[{node.shape[0]}]" in line
            assert f"{summarize(node.gradients[0]).norm:.4g}" in line
            assert "programs.py:" in line
            assert ",".join(str(n.index) for n in node.inputs) in line
    assert any(line.startswith("├─ hidden") for line in lines)


def test_marks_stand_at_the_end():
    r = programs.broken()
    lines = text(r, width=140).split("\n")
    for word, mark in (("NaN", "nan"), ("cut", "blocked"), ("∂ = 0", "zero")):
        marked = {node.index for node in r.nodes if node.mark == mark}
        found = {int(line.split("─ ")[1].split()[0]) for line in lines if line.endswith(word)}
        assert found and found <= marked
    assert "\x1b[1;31m" in text(r, width=140, color=True)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_lines_fit_the_width_and_columns_align(width):
    for r in (programs.mlp(), programs.broken(), programs.loop()):
        lines = text(r, width=width).split("\n")
        assert max(map(len, lines)) <= width
        if width >= 60:
            column = lines[1].index("|∂|")
            assert all(len(line) <= column or line[column - 1] == " " for line in lines[2:])


def test_closed_groups_say_how_much_is_inside():
    r = recording(chain_rows(3, 4))
    lines = text(r, open=1, width=100).split("\n")
    closed = [line for line in lines if "blocks." in line]
    assert [line[6:].split()[0] for line in closed] == ["blocks.0", "blocks.1", "blocks.2"]
    assert all("≤ 1.031" in line and "nodes)" in line and "f32[2]" in line for line in closed)


def test_of_a_long_name_of_an_input_the_end_is_kept():
    names = [f"parameters['encoder']['attention']['{name}']" for name in ("kernel", "bias")]
    r = recording([(names[0], [], ""), (names[1], [], ""), ("add", [0, 1], "")])
    lines = text(r, width=64).split("\n")
    assert lines[2].startswith("├─ 0 …") and "['kernel']" in lines[2]
    assert lines[3].startswith("├─ 1 …") and "['bias']" in lines[3]
