"""The report's page in a real browser."""

import re
from dataclasses import replace

import numpy as np
import pytest

from diffprog.attribute._evaluation.report.webpage import report_page
from diffprog.attribute._evaluation.results import AttributionEvaluation, MethodRecord
from diffprog.attribute.measures import Measured
from tests import browser

GENERATOR = np.random.default_rng(0)
NAMES = ("<b>IG</b> & co", "gradient", "a_method_that_is_" + "long_" * 10)


def record(number):
    measured = {
        "deletion": Measured(GENERATOR.uniform(size=3), curve=GENERATOR.uniform(size=(3, 5)), at=np.linspace(0, 1, 5)),
        "energy": Measured(np.array([0.25, np.nan, 0.5 + number])),
    }
    maps = GENERATOR.normal(size=(2, 40, 56)).astype(np.float32)
    return MethodRecord(np.ones(3), np.zeros(3), np.full(3, 0.01), np.full(3, 7), 1.5, 0.5, measured, maps)


SHOWN = AttributionEvaluation(
    labels=np.array([0, 1, 1]),
    predictions=np.array([0, 0, 1]),
    probabilities=np.array([0.9, 0.2, 0.7]),
    methods={name: record(number) for number, name in enumerate(NAMES)},
    measures={"deletion": "deletion", "energy": "energy"},
    images=GENERATOR.uniform(size=(2, 40, 56, 3)).astype(np.float32),
    settings={
        "methods": {name: {"function": "gradient", "arguments": {"steps": 3}} for name in NAMES},
        "measures": {name: {"function": name, "arguments": {}} for name in ("deletion", "energy")},
        "key": [0, 1],
    },
    versions={"diffprog": "1", "jax": "2"},
    class_names=("ant", "<i>bee</i>, bumblebee"),
)


@pytest.mark.skipif(browser.why_not() is not None, reason=str(browser.why_not()))
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page(visit, tmp_path, width, scheme):
    path = tmp_path / "report.html"
    path.write_text(report_page(SHOWN), encoding="utf-8")
    opened = visit(path.as_uri(), width, 844, color_scheme=scheme)
    assert opened.evaluate("document.documentElement.scrollWidth") == width  # nothing juts out
    background = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) > 600) is (scheme == "light")
    row = opened.locator("tbody tr", has_text="<b>IG</b> & co").locator("td")
    means = [SHOWN.average(NAMES[0], measure) for measure in SHOWN.measures]
    assert row.all_inner_texts()[:2] == [f"{each.mean:.3f} ± {each.error:.3f}" for each in means]
    assert row.all_inner_texts()[2:] == ["1.0%", "7", "0.50"]
    assert opened.locator("tbody th", has_text="gradient").first.bounding_box()["height"] < 60  # a word is one line
    best = opened.locator("td.best").all_inner_texts()
    assert len(best) == 2 and best[1].startswith("1.38")  # of 0.25 and 2.5
    assert "energy of gradient: 1" in opened.locator(".notes").nth(1).inner_text()
    assert opened.locator("svg path.curve").count() == 3
    facts = opened.locator(".facts").all_inner_texts()
    assert facts[1] == "image 1, explained: <i>bee</i> (probability 0.20); the model's answer: ant"
    sizes = opened.evaluate("[...document.images].map((image) => [image.naturalWidth, image.naturalHeight])")
    assert sizes == [[56, 40]] * 2 * 4
    for box in opened.locator("figure").all():
        found = box.bounding_box()
        assert found["x"] >= 0 and found["x"] + found["width"] <= width


def test_an_evaluation_without_pictures_or_curves():
    methods = {
        name: each._replace(measured={"energy": each.measured["energy"]}) for name, each in SHOWN.methods.items()
    }
    text = report_page(replace(SHOWN, images=np.zeros((2, 4)), methods=methods, measures={"energy": "energy"}))
    assert "There are no pictures to show." in text and "No measure has a curve." in text
