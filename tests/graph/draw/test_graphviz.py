"""Graphviz text: every node, every edge, clusters by path, quotes that close."""

import re
import shutil
import subprocess

import pytest

from benchmarks.synthetic_graphs import random_rows, recording
from diffprog.graph._draw import dot
from tests.graph.draw import programs


def edges_in(text):
    return sorted((int(a), int(b)) for a, b in re.findall(r"^  n(\d+) -> n(\d+) \[", text, re.M))


@pytest.mark.parametrize("r", [recording(random_rows(60, 7)), programs.loop(), programs.broken()])
def test_each_node_and_each_edge_is_there(r):
    text = dot(r, everything=True)
    assert edges_in(text) == sorted((edge.source.index, edge.target.index) for edge in all_edges(r))
    nodes = re.findall(r"^  n(\d+) \[label", text, re.M)
    assert sorted(map(int, nodes)) == list(range(len(r.nodes)))
    assert text.count("{") == text.count("}")


def all_edges(r):
    return [edge for node in r.nodes for edge in node.incoming]


def test_clusters_marks_and_quotes():
    text = dot(programs.loop())
    assert 'label="rnn/scan[4]"' in text
    assert "style=dashed arrowhead=tee" in dot(programs.broken())
    assert 'label="a\\"b\\\\ f32[2]' in dot(recording([('a"b\\', [], "")]))


@pytest.mark.skipif(shutil.which("dot") is None, reason="no Graphviz here to read it: apt-get install graphviz")
def test_graphviz_reads_it():
    for r in (programs.broken(), programs.loop()):
        subprocess.run(["dot", "-Tplain"], input=dot(r).encode(), check=True, capture_output=True)
