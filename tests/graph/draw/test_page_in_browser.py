"""The page in a real browser: clicks, keys, steps, search, phone width, dark, and not one error."""

import numpy as np
import pytest

from benchmarks.synthetic_graphs import chain_rows, loop_rows, random_rows, recording
from diffprog.graph._draw import embedded, html
from diffprog.graph._draw.grouping import Group, group_tree
from diffprog.graph._draw.layering import arrangements
from diffprog.graph._draw.layout import lay_out
from tests import browser
from tests.graph.draw import programs
from tests.graph.draw.test_vector import with_credit

pytestmark = pytest.mark.skipif(browser.why_not() is not None, reason=str(browser.why_not()))


@pytest.fixture
def show(visit, tmp_path):
    """recording -> the page showing it."""

    def open_page(r, width=1200, height=800, scheme="light", motion="reduce", step_size=None, **options):
        path = html(r, tmp_path / f"{len(list(tmp_path.iterdir()))}.html", step_size=step_size, **options)
        return visit(path.as_uri(), width, height, color_scheme=scheme, reduced_motion=motion)

    return open_page


def state(page):
    return page.evaluate("(({open, chosen, time, steps}) => ({open, chosen, time, steps}))(diffprog.state())")


def press(page, found):
    """Click what may be outside the window: `f` brings everything into it."""
    page.keyboard.press("f")
    found.click()


def box(page, text):
    """The box with this text."""
    return page.locator("#world .box").filter(has_text=text).first


@pytest.mark.parametrize(
    "rows, open",
    [
        (chain_rows(4, 6), "*"),
        (chain_rows(4, 6), 1),
        (random_rows(80, 1), "*"),
        (random_rows(80, 1), 1),
        (random_rows(60, 2, 25), 0),
        (loop_rows(9), 1),
        (loop_rows(9), "*"),
    ],
)
def test_the_page_lays_out_as_python_does(show, rows, open):
    r = recording(rows)
    page = show(r, open=open, everything=True)
    tree = group_tree(r.nodes)
    expected = lay_out(tree, arrangements(tree, r.nodes), tree.opened(open))
    found = page.evaluate("(({layout}) => layout)(diffprog.state())")
    name = lambda item: f"g{item.index}" if isinstance(item, Group) else f"n{item.index}"
    places = {b["item"]: [b["x"], b["y"], b["width"], b["height"]] for b in found["boxes"]}
    assert places.keys() == {name(b.item) for b in expected.boxes}
    for b in expected.boxes:
        np.testing.assert_allclose(places[name(b.item)], [b.x, b.y, b.width, b.height], atol=1e-6)
    assert len(found["segments"]) == len(expected.segments)
    for ours, theirs in zip(expected.segments, found["segments"], strict=True):
        assert len(ours.edges) == len(theirs["edges"]) and ours.ends == theirs["ends"]
        np.testing.assert_allclose(theirs["points"][-1], ours.points[-1], atol=1e-6)
        np.testing.assert_allclose(theirs["points"][0], ours.points[0], atol=1e-6)


def test_a_click_on_a_node_shows_its_numbers_rule_line_and_edges(show):
    r = programs.mlp()
    page = show(r, open="*")
    node = [n for n in r.nodes if n.primitive == "tanh"][-1]
    press(page, page.locator(f'#world [data-item="n{index_of_node(page, node)}"]'))
    panel = page.locator("#panel")
    text = panel.inner_text()
    for number in [*np.asarray(node.value), *np.asarray(node.gradient)]:
        assert f"{float(number):.4g}" in text
    assert "f32[2]" in text and "output" in text
    assert "z = tanh x" in text and "∂x = g * (1 - tanh² x)" in text
    assert "programs.py" in text and "x = jnp.tanh(w @ x + b)" in panel.locator("pre .here").inner_text()
    panel.get_by_role("button", name="← add").click()
    assert state(page)["chosen"] == index_of_node(page, node.inputs[0])
    page.keyboard.press("Escape")
    assert panel.is_hidden()


def index_of_node(page, node):
    return page.evaluate("(i) => diffprog.graph.nodes.findIndex((n) => n.index === i)", node.index)


def test_a_fan_out_lists_the_parts_and_their_sum(show):
    r = programs.broken()
    page = show(r)
    page.locator("#world .box.input").click()
    rows = page.locator("#panel ul").last.inner_text()
    assert rows.count("→") == 2 and "sum ∂" in rows and "nan" in rows


def test_pictures_and_histograms(show):
    page = show(programs.mlp(), open="*")
    press(page, box(page, "image"))
    picture = page.locator("#panel img").first
    assert picture.evaluate("(img) => [img.complete, img.naturalWidth, img.naturalHeight]") == [True, 8, 8]
    assert page.locator("#panel .bars rect").count() >= 24


def test_groups_fold_and_unfold_and_stay_in_place(show):
    page = show(programs.mlp(), open=0)
    hidden = page.locator('#world [aria-expanded="false"]').filter(has_text="hidden")
    before = hidden.bounding_box()
    hidden.click()
    opened = page.locator('#world [aria-expanded="true"]').filter(has_text="hidden")
    after = opened.bounding_box()
    assert abs(after["y"] - before["y"]) < 12
    assert abs(after["x"] + after["width"] / 2 - before["x"] - before["width"] / 2) < 12
    assert box(page, "tanh").is_visible()
    opened.locator(".name").click()
    assert page.locator("#world .box", has_text="tanh").count() == 0
    page.locator("#unfold").click()
    assert page.locator('#world [aria-expanded="false"]').count() == 0
    page.locator("#fold").click()
    assert page.locator('#world [aria-expanded="true"]').count() == 0


def test_stepping_values_go_forward_gradients_come_back_then_the_update(show):
    r = programs.mlp()
    page = show(r, open="*", step_size=0.1)
    steps = state(page)["steps"]
    phases = [step["phase"] for step in steps]
    n, back = phases.count("forward"), phases.count("backward")
    assert phases == ["forward"] * n + ["backward"] * back + ["update"]
    gradient = page.locator("#world .box.output .gradient")
    page.keyboard.press("Home")
    assert page.locator("#world .box.pending").count() == n
    for _ in range(n):
        page.keyboard.press("ArrowRight")
    assert page.locator("#world .box.pending").count() == 0
    assert page.locator("#status").inner_text().startswith(f"{n} of {len(steps)} · forward")
    assert not gradient.is_visible()
    page.keyboard.press("ArrowRight")
    assert gradient.is_visible() and "backward" in page.locator("#status").inner_text()
    page.keyboard.press("ArrowLeft")
    assert not gradient.is_visible()
    page.keyboard.press("End")
    assert page.locator("#status").inner_text().startswith(f"{len(steps)} of {len(steps)} · update")
    updates = page.locator("#world .update")
    assert updates.count() == 6 and all(updates.nth(i).is_visible() for i in range(6))
    page.keyboard.press("ArrowLeft")
    assert not updates.first.is_visible()


def test_each_value_comes_after_those_it_uses_and_each_gradient_before(show):
    page = show(programs.loop(), open="*")
    steps = state(page)["steps"]
    edges = page.evaluate("diffprog.graph.edges.map((e) => [e.source, e.target, e.size])")
    forward = {s["item"]: i for i, s in enumerate(steps) if s["phase"] == "forward"}
    backward = {s["item"]: i for i, s in enumerate(steps) if s["phase"] == "backward"}
    for source, target, size in edges:
        assert forward[f"n{source}"] < forward[f"n{target}"]
        if size is not None:
            assert backward[f"n{source}"] > backward[f"n{target}"]


def test_play_runs_to_the_end_and_folding_keeps_the_step(show):
    page = show(programs.mlp(), open=0)
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    step = lambda: (lambda now: now["steps"][now["time"] - 1])(state(page))
    before = step()
    page.locator('#world [aria-expanded="false"]').filter(has_text="output").click()
    assert step() == before
    quick = "window.realSetInterval = setInterval; window.setInterval = (f) => realSetInterval(f, 5);"
    page.evaluate(f"() => {{ {quick} }}")  # a function: the page's policy forbids to evaluate text
    page.keyboard.press("Space")
    assert page.locator("#play").get_attribute("aria-label") == "Pause"
    page.locator('#play[aria-label="Play"]').wait_for()
    assert state(page)["time"] == len(state(page)["steps"])


def test_search_by_name_path_primitive_and_line_opens_what_is_folded(show):
    r = programs.loop()
    page = show(r, open=0)
    assert page.locator("#world .box", has_text="tanh").count() == 0
    page.keyboard.press("/")
    page.keyboard.type("scan[3] tanh")
    assert page.locator("#found button").count() == 4  # the whole line says tanh; what is called so comes first
    page.keyboard.press("Enter")
    chosen = state(page)["chosen"]
    node = page.evaluate("(i) => diffprog.graph.nodes[i]", chosen)
    assert node["primitive"] == "tanh" and "scan[3]" in node["path"]
    assert page.locator(f'#world [data-item="n{chosen}"]').is_visible()
    found = page.locator("#found button")
    source = next(n.source for n in r.nodes if n.primitive == "tanh")
    page.locator("#search").fill(f"{source}")
    assert found.count() == len([n for n in r.nodes if str(n.source) == str(source)])
    page.locator("#search").fill("nothing like it")
    assert "Nothing found" in page.locator("#found").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#found").is_hidden() and page.locator("#search").input_value() == ""


def test_keys_zoom_fit_tab_and_enter(show):
    page = show(programs.mlp(), open=0)
    scale = lambda: page.evaluate("diffprog.state().view.k")
    before = scale()
    page.keyboard.press("+")
    assert scale() > before
    page.keyboard.press("-")
    assert np.isclose(scale(), before)
    page.keyboard.press("f")
    inside = page.evaluate(
        "() => { const c = canvas.getBoundingClientRect(), w = world.getBoundingClientRect();"
        " return w.top >= c.top - 1 && w.bottom <= c.bottom + 1 && w.left >= c.left - 1 && w.right <= c.right + 1 }"
    )
    assert inside
    page.locator("#help").focus()
    page.keyboard.press("Tab")
    focused = page.evaluate("document.activeElement.dataset.item")
    assert focused
    groups = page.locator("#world .box.group")
    groups.first.focus()
    count = page.locator("#world .box").count()
    page.keyboard.press("Enter")
    assert page.locator("#world .box").count() > count
    page.keyboard.press("?")
    assert "How to read it" in page.locator("#panel").inner_text()


def test_wheel_and_drag_move_the_drawing(show):
    page = show(programs.mlp())
    view = lambda: page.evaluate("(({x, y, k}) => ({x, y, k}))(diffprog.state().view)")
    before = view()
    page.mouse.move(600, 400)
    page.mouse.wheel(0, -200)
    browser.wait_until(page, "(k) => diffprog.state().view.k > k", before["k"])
    before = view()
    page.mouse.move(900, 700)
    page.mouse.down()
    page.mouse.move(950, 740, steps=4)
    page.mouse.up()
    after = view()
    assert np.allclose([after["x"] - before["x"], after["y"] - before["y"], after["k"]], [50, 40, before["k"]])
    assert page.locator("#panel").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_can_be_seen_in_light_and_dark(show, scheme):
    page = show(programs.broken(), scheme=scheme)
    nan = page.locator("#world .box.nan").first
    assert nan.locator(".badge text").text_content() == "NaN"
    colors = nan.locator("rect.frame").evaluate("(r) => [getComputedStyle(r).stroke, getComputedStyle(r).fill]")
    paper = page.locator("#canvas").evaluate("(c) => getComputedStyle(c).backgroundColor")
    ink = nan.locator("text.name").evaluate("(t) => getComputedStyle(t).fill")
    assert contrast(colors[0], paper) > 3 and contrast(ink, colors[1]) > 7
    dashes = [
        page.locator(f"#world .segment.{mark} path.line").first.evaluate("(p) => getComputedStyle(p).strokeDasharray")
        for mark in ("nan", "zero", "blocked")
    ]
    assert len(set(dashes)) == 3 and "none" not in dashes


def contrast(a, b):
    """Of two CSS colors, by WCAG 2.1."""

    def luminance(color):
        channels = np.array([float(x) for x in color[color.index("(") + 1 : -1].split(",")[:3]]) / 255
        linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    high, low = sorted([luminance(a), luminance(b)], reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_a_phone_has_room_for_everything(show):
    page = show(programs.mlp(), width=390, height=844, open=0)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for button in page.locator("header button, footer button").all():
        place = button.bounding_box()
        assert place["x"] >= 0 and place["x"] + place["width"] <= 390 and place["height"] >= 34
    page.locator("#next").click()
    assert state(page)["time"] == 1
    box(page, "hidden").click()
    tanh = box(page, "tanh")
    press(page, tanh)
    panel = page.locator("#panel").bounding_box()
    assert panel["width"] == 390 and panel["y"] > 200
    chosen = tanh.bounding_box()
    assert chosen["y"] + chosen["height"] <= panel["y"] + 1, "the panel covers what was chosen"


def test_in_a_notebook_the_page_is_in_a_frame_of_its_own(show):
    page = show(programs.mlp())
    page.set_content(f"<h1>Notebook</h1>{embedded(programs.mlp(), open='*')}")
    frame = page.frame_locator("iframe")
    frame.locator("#next").click()
    assert "1 of" in frame.locator("#status").inner_text()


HIDDEN = {"a frame without width": "width: 0", "a hidden tab": "display: none", "a frame in sight": ""}


@pytest.mark.parametrize("width", [900, 390])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_in_a_frame_that_has_no_size_at_first_the_graph_is_drawn_in_its_middle(visit, hidden, width):
    page = visit("data:text/html,<title>notebook</title>", width, 800)
    page.set_content(
        f'<body style="margin: 0"><div id="cell" style="{HIDDEN[hidden]}">{embedded(programs.mlp())}</div>'
    )
    frame = page.frame_locator("iframe")
    frame.locator("#world .box").first.wait_for(state="attached")
    page.evaluate("document.getElementById('cell').style = ''")
    middle = "(selector) => { const r = selector.getBoundingClientRect(); return [r.left, r.right]; }"
    frame.locator("#world .box").first.wait_for(state="visible")
    page.wait_for_timeout(100)  # frames are laid out, and then observed
    left, right = frame.locator("#world").evaluate(middle)
    from_, to = frame.locator("#canvas").evaluate(middle)
    assert to - from_ > width / 2
    assert from_ <= left < right <= to
    assert abs((left + right) - (from_ + to)) < 40  # its labels may reach out on one side


def test_a_resized_window_moves_only_what_the_reader_has_not_moved(show):
    page = show(programs.mlp(), width=1200)
    view = lambda: page.evaluate("(({view: {x, y, k}}) => [x, y, k])(diffprog.state())")
    before = view()
    page.set_viewport_size({"width": 800, "height": 700})
    browser.wait_until(page, "(x) => diffprog.state().view.x !== x", before[0])
    page.keyboard.press("+")
    moved = view()
    page.set_viewport_size({"width": 1000, "height": 900})
    page.wait_for_timeout(100)
    assert view() == moved


def test_without_gradients_the_page_says_so(show):
    page = show(recording(chain_rows(2, 4), differentiated=False))
    page.locator("#help").click()
    assert "backward() was not called" in page.locator("#panel").inner_text()
    assert {step["phase"] for step in state(page)["steps"]} == {"forward"}


def test_two_thousand_nodes_open_step_and_close(show):
    page = show(recording(random_rows(2000)), everything=True)
    page.locator("#unfold").click()
    assert page.locator("#world .box").count() > 2000
    page.keyboard.press("ArrowLeft")
    assert page.locator("#world .box").count() > 2000
    page.locator("#fold").click()
    assert page.locator("#world .box").count() < 2000


def test_credit_has_colors_and_numbers(show):
    r, credit = with_credit()
    page = show(r, credit=credit)
    assert page.locator("#world .segment.s6:not(.plus)").count() == 1
    assert page.locator("#world .segment.plus.s0").count() == 1
    box(page, "mul").click()
    panel = page.locator("#panel").inner_text()
    assert all(f"credit {text}" in panel for text in ("-1.5", "+0.5", "-2"))
