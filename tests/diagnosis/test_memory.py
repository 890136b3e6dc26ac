"""What compiled programs hold, by line: against the compiler's own figures, in words, as a picture and as a page."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental.compilation_cache import compilation_cache

import diffprog as dp
from benchmarks import memory as benchmark
from diffprog.diagnosis import MemoryReport, MemoryRow, _memory
from tests import browser

SVG = "{http://www.w3.org/2000/svg}"


def chain(layers, x):
    for w in layers:
        x = jnp.sqrt(1 + x @ w)  # line of the chain
    return jnp.sum(x**2)


def recurrence(layers, x):
    step = lambda state, w: (jnp.tanh(state @ w), None)  # line of the step
    return jnp.sum(lax.scan(step, x, jnp.stack(layers))[0] ** 2)


def line_of(comment: str) -> int:
    with open(__file__, encoding="utf-8") as file:
        return 1 + next(i for i, line in enumerate(file) if line.rstrip().endswith(f"# {comment}"))


LAYERS, X = [np.eye(32, dtype=np.float32) + i / 100 for i in range(6)], np.ones((512, 32), np.float32)
ACTIVATION = X.nbytes


@pytest.fixture(scope="module")
def report():
    return dp.memory(chain)(LAYERS, X)


@pytest.fixture(scope="module")
def planned():
    return dp.memory(chain, memory=0.7)(LAYERS, X)


def figures(function, *args):
    return jax.jit(function).lower(*args).compile().memory_analysis()


@pytest.mark.parametrize("program", [chain, recurrence])
def test_the_figures_are_the_compilers_and_the_rows_add_up_to_them(program):
    report = dp.memory(program)(LAYERS, X)
    expected = figures(dp.value_and_grad(program), LAYERS, X)
    assert report.temporary == expected.temp_size_in_bytes
    assert (report.arguments, report.results) == (expected.argument_size_in_bytes, expected.output_size_in_bytes)
    assert 0.999 * report.temporary <= report.peak <= report.temporary
    assert report.notes == () and report.budget is None and report.plain is None
    assert {row.source.file for row in report.rows} == {__file__}
    line = line_of("line of the chain" if program is chain else "line of the step")
    (made_there,) = (row for row in report.rows if row.source.line == line and row.phase == "forward")
    assert made_there.bytes >= 5 * ACTIVATION


def test_spans_add_up_over_time(report):
    held = report.over_time
    assert held.shape == (len(report.running), 3)
    assert held.sum(1).max() == report.peak == held[report.peak_at].sum()
    expected = np.zeros(len(report.running), np.int64)
    for span in report.spans:
        assert 0 <= span.start < span.stop
        expected[span.start : span.stop] += span.bytes
    np.testing.assert_array_equal(held.sum(1), expected)
    forward = report.running.index("backward")  # one activation more with each layer, until the backward pass starts
    np.testing.assert_array_equal(np.unique(held[:forward, 0]), ACTIVATION * np.arange(1, 7))
    assert set(report.running) == {"forward", "backward"} and not held[:, 2].any()


def test_a_plan_stands_beside_what_it_was_made_from(planned, report):
    for same in ("program", "temporary", "arguments", "results", "running", "peak", "peak_at"):
        assert getattr(planned.plain, same) == getattr(report, same)
    assert planned.budget == int(0.7 * report.temporary) >= planned.temporary
    assert planned.temporary == figures(dp.value_and_grad(chain, memory=0.7), LAYERS, X).temp_size_in_bytes
    assert planned.over_time[:, 2].max() >= ACTIVATION  # something is computed again, and held
    assert {span.source.line for span in planned.spans if span.phase == "recomputed" and span.bytes >= ACTIVATION} == {
        line_of("line of the chain")
    }


def test_in_words(report, planned):
    first, *rest = str(report).splitlines()
    held = report.temporary // 1024
    assert first == f"the gradient of chain holds {held} kB besides arguments (88 kB) and results (24.1 kB)"
    line = line_of("line of the chain")
    assert re.fullmatch(rf"  \d+ kB  \d\d%  forward   test_memory.py:{line} \(chain\)  x = jnp.sqrt.*", rest[0])
    curve = rest[-1].removeprefix("  over time ")
    assert len(curve) == min(64, len(report.running)) and curve.count("█") >= 1
    assert "memory= allows" in str(planned) and f"without it: {held} kB" in str(planned)
    few = report.table(max_rows=0)
    assert few.splitlines()[1].endswith(f"{len(report.rows)} more")


def test_a_whole_step_is_reported_as_it_is():
    @partial(jax.jit, static_argnums=2, donate_argnums=0)
    def step(layers, x, rate):
        return [w - rate * g for w, g in zip(layers, dp.grad(chain)(layers, x), strict=True)]

    report = dp.memory(step, argnums=None)(LAYERS, X, 0.1)
    expected = step.lower(LAYERS, X, 0.1).compile().memory_analysis()
    assert report.program == "step" and report.temporary == expected.temp_size_in_bytes
    assert report.donated == expected.alias_size_in_bytes >= 6 * LAYERS[0].nbytes
    assert {"forward", "backward"} <= set(report.running)
    theirs = dp.memory(jax.grad(chain), argnums=None)(LAYERS, X)
    assert {"forward", "backward"} == set(theirs.running) and theirs.peak >= 0.999 * theirs.temporary
    without_gradient = dp.memory(chain, argnums=None)(LAYERS, X)
    assert set(without_gradient.running) == {"forward"}


def test_copies_of_arguments_are_named():
    """An argument that is donated is copied if its place is written to before it is read for the last time."""

    @partial(jax.jit, donate_argnums=(0, 1))
    def swap(x, y):
        return jnp.tanh(y @ y), jnp.tanh(x @ y @ x)

    report = dp.memory(swap, argnums=None)(np.ones((64, 64), np.float32), np.ones((64, 64), np.float32))
    assert "no line (copy of an argument)" in [row.where for row in report.rows]


def test_constants_of_the_program_are_told_where_they_weigh_something(report):
    named = _memory.beside(replace(report, constants=2**20))
    assert named == "besides arguments (88 kB), results (24.1 kB) and constants (1 MB)"
    assert _memory.beside(report) == "besides arguments (88 kB) and results (24.1 kB)"
    table = np.sin(np.arange(2**14, dtype=np.float32)).reshape(128, 128)
    found = dp.memory(lambda x: jnp.sum(jnp.tanh(x @ table)))(np.ones((8, 128), np.float32)).constants
    assert table.nbytes <= found < table.nbytes + 64  # numbers as well


def test_nothing_is_run_and_arguments_may_be_types_alone():
    layers = [jax.ShapeDtypeStruct((1024, 1024), np.float32)] * 3
    report = dp.memory(chain)(layers, jax.ShapeDtypeStruct((2**24, 1024), np.float32))
    assert report.temporary >= 3 * 2**36  # three activations of 64 GB


def test_arguments_that_are_no_arrays_stay_as_they_are():
    def scaled(layers, x, kind, scale):
        return chain(layers, x) * scale if kind == "scaled" else 0.0

    assert dp.memory(scaled)(LAYERS, X, "scaled", scale=2.0).peak >= 5 * ACTIVATION


@pytest.fixture
def cache_on_disk(tmp_path):
    settings = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_lines_are_those_of_now_though_the_program_comes_from_a_cache_on_disk(cache_on_disk):
    source = "def loss(w, x):\n    return jnp.sum(jnp.sqrt(1 + x @ w) @ w)\n"
    for above in (0, 3, 3):
        names = {"jnp": jnp}
        exec(compile("\n" * above + source, "model.py", "exec"), names)
        report = dp.memory(names["loss"])(LAYERS[0], X)
        assert {row.source.line for row in report.rows} == {above + 2}
    assert len(list(cache_on_disk.glob("jit_call*-cache"))) == 2  # the third was read


def test_what_is_wrong_is_said():
    with pytest.raises(TypeError, match="function"):
        dp.memory(3)
    with pytest.raises(ValueError, match="argnums=None differentiates nothing; found memory='1MB'"):
        dp.memory(chain, argnums=None, memory="1MB")
    with pytest.raises(ValueError, match="fraction"):
        dp.memory(chain, memory="much")
    with pytest.raises(ValueError, match="the least that was reached"):
        dp.memory(chain, memory=1000)(LAYERS[:2], X)


def test_what_is_not_known_is_said(monkeypatch):
    """As of a backend that gives out totals alone."""
    monkeypatch.setattr(_memory, "memory_over_time", lambda compiled: None)
    report = dp.memory(chain)(LAYERS, X)
    assert report.temporary >= 6 * ACTIVATION and report.rows == report.running == () and report.peak_at is None
    assert "does not say where it puts which value" in str(report)
    assert "does not say where" in "".join(ElementTree.fromstring(report.svg()).itertext())
    assert "does not say where" in report.html()


def test_lines_that_hold_far_less_than_the_compiler_sets_aside_are_no_secret(report):
    (note,) = _memory._notes(True, 70 * 2**20, 100 * 2**20)
    assert note.startswith("the lines hold 70 MB at the peak, and the compiler sets aside 100 MB")
    assert list(_memory._notes(True, 95 * 2**20, 100 * 2**20)) == []


# ---------------------------------------------------------------- picture and page


def areas(panel) -> dict[str, np.ndarray]:
    """The corners of each phase's area in a curve."""
    found = {}
    for path in panel.iter(f"{SVG}path"):
        if path.get("class") in ("forward", "backward", "recomputed"):
            found[path.get("class")] = [float(y) for y in re.findall(r"V([\d.]+)", path.get("d"))]
    return found


def test_the_picture_has_the_curves_the_bars_and_the_budget(planned):
    root = ElementTree.fromstring(planned.svg())
    curves = [g for g in root.iter(f"{SVG}g") if g.get("class") == "curve"]
    assert len(curves) == 2
    plain, with_budget = map(areas, curves)
    assert plain.keys() == {"forward", "backward"} and with_budget.keys() == {"forward", "backward", "recomputed"}
    foot, scale = 190.0, 190.0 / (1.08 * planned.plain.temporary)  # both have the scale of the larger
    for report, drawn in ((planned.plain, plain), (planned, with_budget)):
        top = min(y for ys in drawn.values() for y in ys)
        assert foot - top == pytest.approx(scale * report.peak, abs=0.06)
    lines = [path for path in root.iter(f"{SVG}path") if path.get("class") == "budget"]
    heights = {float(re.search(r" ([\d.]+)h830", line.get("d"))[1]) for line in lines[1:]}  # the first: in the legend
    assert list(heights) == [pytest.approx(foot - scale * planned.budget, abs=0.06)]
    words = "\n".join(root.itertext())
    for text in (
        "made by the forward pass",
        "computed again",
        f"peak: {planned.plain.peak // 1024} kB",
        "memory= allows",
        "within its budget",
    ):
        assert text in words


def long_report(**changes) -> MemoryReport:
    source = _memory.Source("/a/very/long/" + "path" * 20 + "/" + "name" * 20 + ".py", 12345, "f" * 80, ())
    rows = tuple(MemoryRow(10 * (20 - i), source if i % 2 else None, "forward", f"x/<&{i}>") for i in range(14))
    values = {"program": "the gradient of <lambda> & " + "g" * 90, "temporary": 3000, "arguments": 0, "results": 0}
    return MemoryReport(**(values | {"donated": 0, "constants": 0, "rows": rows, "spans": (), "running": ()} | changes))


def test_texts_stay_in_their_places_however_long_they_are():
    spans = tuple(_memory.MemorySpan(r.bytes, r.source, r.phase, r.operation, 0, 1) for r in long_report().rows)
    root = ElementTree.fromstring(long_report(spans=spans, running=("forward",)).svg())
    for text in root.iter(f"{SVG}text"):
        kind, said = text.get("class") or "", "".join(text.itertext())
        wide = 6.7 if "mono" in kind else 9.2 if "title" in kind else 6.6
        if text.get("text-anchor") is None:
            assert float(text.get("x")) + wide * len(said) <= (330 if "mono" in kind else 925), said


def test_the_page_is_one_file_written_whole(planned, tmp_path):
    path = planned.html(tmp_path / "deep" / "page.html")
    assert path.read_text(encoding="utf-8") == planned.html()
    assert list(path.parent.iterdir()) == [path]
    assert long_report().html().count("&lt;lambda&gt; &amp;") >= 2


@pytest.mark.skipif(browser.why_not() is not None, reason=str(browser.why_not()))
def test_the_page_says_what_is_held_where_one_points(planned, tmp_path, visit):
    page = visit(planned.html(tmp_path / "page.html").as_uri(), 1000, 1400)
    line = f"test_memory.py:{line_of('line of the chain')} (chain)"
    assert page.locator("#then tr").count() == 0
    page.locator(".curve").first.hover()
    assert line in page.locator("#then").inner_text()
    page.locator(".curve").nth(1).focus()
    at_peak = f"instruction {planned.peak_at + 1} of {len(planned.running)}"
    said = page.locator("#when").inner_text()
    assert "within its budget" in said and at_peak in said and f"{planned.peak // 1024} kB" in said
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    assert f"instruction {len(planned.running) - 1} of" in page.locator("#when").inner_text()
    fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(fits)
    phone = visit((tmp_path / "page.html").as_uri(), 380, 700)
    assert phone.evaluate(fits)


# ---------------------------------------------------------------- real programs


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape) / np.sqrt(shape[-1]), jnp.float32)


def scanned_convolutions(wrap):
    def loss(kernels, images):
        convolve = lambda x, k: lax.conv_general_dilated(
            x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.sum(lax.scan(lambda x, k: (x + jax.nn.silu(convolve(x, k)), None), images, kernels)[0] ** 2)

    return loss, (normal(8, 3, 3, 32, 32), normal(8, 32, 32, 32))


def mixed(wrap):
    def loss(layers, x):
        for w in layers[:4]:
            x = lax.cond(x[0, 0] > 9, jnp.sin, lambda x, w=w: jnp.tanh(x @ w), x)
        x, _ = lax.scan(lambda c, w: (jnp.sin(c @ w), None), x, jnp.stack(layers), reverse=True)
        return jnp.sum(lax.fori_loop(0, 12, lambda i, x: jnp.cos(x * (i + 1.0)), x))

    return loss, ([normal(256, 256) for _ in range(12)], normal(1024, 256))


def of_each_example(wrap):
    def loss(layers, xs):
        def one(x):
            for w in layers:
                x = jax.nn.gelu(w @ x) + x
            return jnp.sum(x**2)

        return jnp.mean(jax.vmap(one)(xs))

    return loss, ([normal(256, 256) for _ in range(16)], normal(2048, 256))


REAL = {name: make for name, (make, _) in benchmark.PROGRAMS.items()} | {
    "scanned convolutions": scanned_convolutions,
    "branch and loops": mixed,
    "vmapped layers": of_each_example,
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", [jax, dp])
@pytest.mark.parametrize("name", REAL)
def test_the_rows_of_ten_programs_add_up_to_the_compilers_figure(name, engine):
    loss, args = REAL[name](lambda layer: layer)
    report = dp.memory(engine.value_and_grad(loss), argnums=None)(*args)
    exact = name in ("chain of 64", "recurrent", "reaction-diffusion")
    assert (0.999 if exact else 0.9) * report.temporary <= report.peak <= report.temporary
    unknown = sum(row.bytes for row in report.rows if row.source is None)
    assert unknown <= 0.02 * report.peak
