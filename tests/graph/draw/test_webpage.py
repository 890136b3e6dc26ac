"""The page's data and text; what it does is tested in a browser (test_page_in_browser.py)."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from benchmarks.synthetic_graphs import recording
from diffprog._util.files import write_text
from diffprog._util.html_page import script_json
from diffprog.graph._draw import html
from diffprog.graph._draw.arrays import shown
from diffprog.graph._draw.page_data import page_data
from diffprog.graph._recording.summaries import summarize
from tests.graph.draw import programs


def data_of(page):
    return json.loads(re.search(r'<script id="graph" type="application/json">(.*?)</script>', page, re.S).group(1))


def test_data_has_the_numbers_of_the_recording():
    r = programs.mlp()
    data = page_data(r, step_size=0.1)
    nodes = {node["index"]: node for node in data["nodes"]}
    for node in r.nodes:
        if node.index in nodes and np.size(node.value) <= 8 and node.gradients and node.gradient is not None:
            told = nodes[node.index]
            for array, shown_array in ((node.value, told["values"][0]), (node.gradient, told["gradients"][0])):
                found = np.array(shown_array["numbers"], float).reshape(np.shape(array))
                np.testing.assert_allclose(found, array, rtol=5e-4)
    updated = [node for node in data["nodes"] if node["update"]]
    inputs = [n for n in r.nodes if n.primitive == "input" and n.gradients[0] is not None]
    assert {node["index"] for node in updated} == {n.index for n in inputs}
    bias = next(n for n in r.nodes if n.primitive == "input" and np.shape(n.value) == (2,))
    expected = np.asarray(bias.value) - 0.1 * np.asarray(bias.gradient)
    np.testing.assert_allclose(np.array(nodes[bias.index]["update"]["numbers"], float).reshape(2), expected, rtol=5e-4)


def test_edges_have_the_parts_of_the_gradient():
    r = programs.broken()
    data = page_data(r, everything=True)
    assert len(data["edges"]) == sum(len(node.incoming) for node in r.nodes)
    marks = {edge["mark"] for edge in data["edges"]}
    assert {"nan", "blocked", "zero", ""} <= marks


def test_nothing_in_the_data_ends_the_script():
    nasty = "</script><script>alert(1)</script>\u2028\u2029<!-- ]]> & \\ \" ' \x00"
    text = script_json({"x": nasty})
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == {"x": nasty}
    page = html(recording([(nasty, [], ""), ("$data${script}$body", [0], nasty)]))
    assert data_of(page)["nodes"][0]["label"] == nasty
    assert page.count("</script>") == 2


def test_the_page_asks_for_nothing_outside():
    page = html(programs.mlp())
    addresses = set(re.findall(r"""(?:https?:)?//[\w.]+\.\w+[^\s"']*""", page))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<link[^>]+stylesheet|<script[^>]+src|@import|url\(", page)


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = html(programs.mlp(), tmp_path / "new" / "graph.html", step_size=0.5)
    assert path.read_text(encoding="utf-8") == html(programs.mlp(), step_size=0.5)
    assert [p.name for p in path.parent.iterdir()] == ["graph.html"]
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half of it \ud800")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [p.name for p in path.parent.iterdir()] == ["graph.html"]


def test_pictures_are_the_values():
    image = np.linspace(0, 1, 10 * 12 * 3, dtype=np.float32).reshape(10, 12, 3)
    told = shown(image)
    assert told["scaled"] == "black 0, white 1"
    np.testing.assert_array_equal(decoded(told), np.round(255 * image).astype(np.uint8))
    signed = (image - 0.25)[None, ..., :1]  # as a gradient: gray is zero
    told = shown(signed)
    assert told["scaled"] == "black -0.7444, white 0.7444"
    np.testing.assert_allclose(decoded(told), (signed[0, ..., 0] / 0.744429 + 1) * 127.5, atol=0.51)
    large = shown(np.zeros((1, 600, 300, 3), np.float32))
    assert decoded(large).shape == (144, 72, 3)
    assert "picture" not in shown(np.zeros((4, 4, 3))) and "picture" not in shown(np.zeros((9, 9, 2)))


def decoded(told):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(told["picture"].split(",")[1]))))


def test_large_arrays_are_told_by_histogram_and_statistics():
    array = np.random.default_rng(0).normal(size=(50, 60)).astype(np.float32)
    for value in (array, summarize(array)):
        told = shown(value)
        assert "numbers" not in told and told["type"] == "f32[50,60]"
        assert sum(told["histogram"][0]) == 3000
        assert dict(told["stats"])["length (L2)"] == f"{np.linalg.norm(array):.4g}"
    assert shown(None) is None
    assert shown(np.float32([np.nan, 1]))["numbers"] == [["nan", "1"]]
    assert shown(np.zeros((0, 3), np.float32))["brief"] == "empty"


def test_json_has_no_nan():
    json.dumps(page_data(programs.broken(), step_size=1.0), allow_nan=False)


def test_the_update_is_of_the_inputs_that_were_asked_for():
    r = programs.mlp()

    def updated(update):
        return [node["label"] for node in page_data(r, step_size=0.1, update=update)["nodes"] if node["update"]]

    assert sorted(updated("parameters['output']*")) == ["parameters['output'][0]", "parameters['output'][1]"]
    assert sorted(updated(["image", "target"])) == ["image", "target"]
    with pytest.raises(ValueError, match="update='imag' matches no input; the nearest are 'image'"):
        html(r, step_size=0.1, update="imag")
