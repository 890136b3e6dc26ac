"""The SVG: well-formed, complete, with the right marks and widths."""

import re
import xml.etree.ElementTree as ElementTree

import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from benchmarks.synthetic_graphs import chain_rows, random_rows, recording
from diffprog.graph._draw import svg
from diffprog.graph._draw.scale import Scale, scale_of
from tests.graph.draw import programs

SVG = "{http://www.w3.org/2000/svg}"


def drawn(r, **options):
    root = ElementTree.fromstring(svg(r, **options))
    return root, [g for g in root.iter(f"{SVG}g") if "box" in g.get("class", "").split()]


def text_of(element):
    return " ".join("".join(text.itertext()) for text in element.iter(f"{SVG}text"))


@pytest.mark.parametrize("rows", [chain_rows(2, 4), random_rows(50, 4)])
def test_each_node_is_drawn_once_when_all_is_open(rows):
    _, boxes = drawn(recording(rows), open="*", everything=True)
    indices = [int(box.get("data-node")) for box in boxes if box.get("data-node")]
    assert sorted(indices) == list(range(len(rows)))


def test_closed_groups_stand_for_their_nodes():
    _, boxes = drawn(recording(chain_rows(12, 6)), open=1)
    groups = {box.get("data-group"): text_of(box) for box in boxes if box.get("data-group")}
    assert list(groups) == ["net/blocks"] or "net/blocks" in groups
    assert not [box for box in boxes if box.get("data-node") and "dot" in text_of(box)]


def test_numbers_of_a_real_program_are_in_the_boxes():
    r = programs.mlp()
    root, boxes = drawn(r, open="*")
    texts = {int(box.get("data-node")): text_of(box) for box in boxes if box.get("data-node")}
    output = r.outputs[0].node
    assert f"{float(r.output):.4g}" in texts[output.index]
    assert "∂ 1" in texts[output.index]
    assert root.find(f"{SVG}title").text == f"loss: {len(r.nodes)} nodes"
    assert root.get("role") == "img" and root.find(f"{SVG}desc").text


def test_what_went_wrong_is_marked_by_class_badge_and_dash():
    r = programs.broken()
    root, boxes = drawn(r, open="*")
    marked = {box.get("data-node"): box for box in boxes}
    for node in r.nodes:
        box = marked.get(str(node.index))
        if box is not None:
            assert (node.mark in box.get("class").split()) == bool(node.mark)
    nan = [box for box in boxes if "nan" in box.get("class").split()]
    assert nan and all("NaN" in text_of(box) for box in nan)
    segments = [g.get("class") for g in root.iter(f"{SVG}g") if g.get("class", "").startswith("segment")]
    assert {"segment nan", "segment blocked", "segment zero"} <= set(segments)
    style = root.find(f"{SVG}style").text
    for mark in ("nan", "blocked", "zero", "unused"):
        assert re.search(rf"\.segment\.{mark} path\.line[^}}]*stroke-dasharray", style)
    assert "prefers-color-scheme: dark" in style


def test_wider_lines_carry_larger_gradients():
    scale = scale_of([1e-3, None, 0.0, float("nan"), 10.0])
    steps = [scale.step(x) for x in (1e-3, 1e-2, 0.1, 1.0, 10.0)]
    assert steps == sorted(steps) and (steps[0], steps[-1]) == (0, 6)
    assert scale.step(None) is scale.step(0.0) is scale.step(float("inf")) is None
    assert scale_of([1e-30, 1.0]) == Scale(1e-8, 1.0)
    assert scale_of([0.0, None]) is None
    r = recording([("x", [], ""), ("a", [0], ""), ("b", [0], ""), ("c", [1, 2], "")])
    r.nodes[1].incoming[0].gradient = np.float32([1e-4, 0])
    r.nodes[2].incoming[0].gradient = np.float32([1e4, 0])
    root, _ = drawn(r)
    classes = [g.get("class") for g in root.iter(f"{SVG}g") if g.get("class", "").startswith("segment s")]
    assert "segment s0" in classes and "segment s6" in classes


def test_labels_are_escaped():
    r = recording([('<b> & "x" \x00', [], ""), ("add", [0], "a<&b")])
    root, boxes = drawn(r)
    assert any('<b> & "x"' in text_of(box) for box in boxes)
    assert "a<&b" in [box.get("data-group") for box in boxes] and "a<&b" in text_of(root)


def test_before_backward_there_are_values_and_no_gradients():
    text = svg(recording(chain_rows(1, 4), differentiated=False), open="*")
    assert "∂" not in re.sub(r"<style>.*?</style>", "", text, flags=re.S)


def test_a_glob_without_a_match_is_refused():
    with pytest.raises(ValueError, match="matches no group of nodes"):
        svg(programs.mlp(), open="encoder/*")


def with_credit():
    """(x y) and its two edges of opposite credit."""
    r = dp.record(lambda x, y: x * y)(jnp.float32(2.0), jnp.float32(3.0))
    (product,) = r.select("mul")
    first, second = product.incoming
    return r, {first: 0.5, second: -2.0, first.source: 0.5, second.source: -2.0, product: -1.5}


def test_credit_is_drawn_by_width_and_color():
    r, credit = with_credit()
    root, boxes = drawn(r, credit=credit)
    segments = [g.get("class") for g in root.iter(f"{SVG}g") if g.get("class", "").startswith("segment")]
    assert sorted(segments[:2]) == ["segment s0 plus", "segment s6"]
    strips = [rect.get("class") for box in boxes for rect in box.iter(f"{SVG}rect") if "strip" in rect.get("class")]
    assert sorted(strips) == ["strip s0 plus", "strip s5", "strip s6"]
    legend = next(g for g in root.iter(f"{SVG}g") if g.get("class") == "legend")
    assert "|credit|" in text_of(legend) and "above 0" in text_of(legend) and "gradient" not in text_of(legend)


def test_edges_without_credit_are_thin():
    r, _ = with_credit()
    first, second = r.edges
    root, _ = drawn(r, credit={first: 1.0, second: 1e-12})
    segments = [g.get("class") for g in root.iter(f"{SVG}g") if g.get("class", "").startswith("segment")]
    assert "segment constant" in segments


def test_credit_of_another_recording_is_refused():
    (r, _), (_, credit) = with_credit(), with_credit()
    with pytest.raises(ValueError, match="node or edge of this recording"):
        svg(r, credit=credit)
