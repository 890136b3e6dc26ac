"""The report's page in a real browser, and its curves."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from diffprog.attack._evaluation.report.curves import points, ticks
from diffprog.attack._evaluation.report.table import budget_texts
from diffprog.attack._evaluation.report.webpage import as_picture, report_page
from diffprog.attack._evaluation.results import RobustnessWarning, WorstCase
from diffprog.images import read_image
from tests import browser

NAMES = ("<b>ant</b>", "bee & co, bumblebee", "cat", "dog", "eel")


def photographs():
    """A color image, a gray one with its channel in front, a row that is a square, and one that is no picture."""
    rng = np.random.default_rng(0)
    for number, shape in enumerate([(40, 56, 3), (1, 28, 28), (64,), (7,)]):
        image = rng.uniform(0.2, 0.8, size=shape).astype(np.float32)
        change = rng.choice([-0.02, 0.02], size=shape).astype(np.float32)
        yield WorstCase(number, "pgd", number % 5, (number + 1) % 5, 0.02, image, image + change)


@pytest.fixture
def shown(whole):
    warnings = (RobustnessWarning("black-box", "Something <i>long</i>: " + "x" * 120 + "."),)
    return replace(whole[1], worst_cases=tuple(photographs()), class_names=NAMES, warnings=warnings)


@pytest.mark.skipif(browser.why_not() is not None, reason=str(browser.why_not()))
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page(visit, shown, tmp_path, width, scheme):
    path = tmp_path / "report.html"
    path.write_text(report_page(shown), encoding="utf-8")
    opened = visit(path.as_uri(), width, 844, color_scheme=scheme)
    assert opened.evaluate("document.documentElement.scrollWidth") == width  # nothing juts out
    background = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) > 600) is (scheme == "light")
    assert opened.locator(".figures strong").all_inner_texts() == [
        f"{100 * value:.1f}%" for value in (shown.clean_accuracy, *shown.robust_accuracy())
    ]
    row = opened.locator("tbody tr", has_text="walk").locator("td.accuracy")
    assert row.all_inner_texts() == [f"{100 * value:.1f}" for value in shown.accuracy("walk")]
    assert opened.locator(".warnings p").inner_text() == shown.warnings[0].message
    cards = opened.locator(".worst-cases li")
    assert cards.count() == 4
    assert cards.nth(0).locator(".verdict").inner_text() == "<b>ant</b> becomes bee & co"
    sizes = opened.evaluate("[...document.images].map((image) => [image.naturalWidth, image.naturalHeight])")
    assert sizes == [[56, 40]] * 3 + [[28, 28]] * 3 + [[8, 8]] * 3
    assert cards.nth(0).locator("figcaption").nth(1).inner_text() == "change \N{MULTIPLICATION SIGN} 25"
    curves = opened.locator("svg path.curve")
    assert curves.count() == 3  # the worst case, pgd, walk
    for box in (opened.locator("svg"), *curves.all()):
        found = box.bounding_box()
        assert found["x"] >= 0 and found["x"] + found["width"] <= width
    text = opened.locator("svg text").first.bounding_box()
    assert text["height"] > 8  # to be read on a telephone
    opened.locator(".wide").focus()  # the table is scrolled by keys where it is broader than the page
    assert opened.evaluate("document.activeElement.className") == "wide"


def test_an_evaluation_of_nothing_remarkable(whole):
    text = report_page(replace(whole[1], worst_cases=(), warnings=()))
    assert "No check found anything to warn of." in text and "No image was broken." in text


def test_curves_are_the_accuracies_and_exact_for_smallest_perturbations(whole):
    _, found = whole
    places, right = points(found, "pgd")
    np.testing.assert_array_equal(places, [0, *found.epsilons])
    np.testing.assert_array_equal(right, [found.clean_accuracy, *found.accuracy("pgd")])
    places, right = points(found, "walk")
    smallest = found.records["walk"].minimum_norm
    np.testing.assert_array_equal(right, [np.mean(smallest > budget) for budget in places])
    assert set(found.epsilons) <= set(places) and len(places) > 100
    np.testing.assert_array_equal(points(found)[1], [np.mean(found.minimum_norm > budget) for budget in places])
    only = replace(found, records={"pgd": found.records["pgd"]})
    np.testing.assert_array_equal(points(only)[1], [found.clean_accuracy, *found.accuracy("pgd")])


def test_budgets_are_levels_where_all_of_them_are(whole):
    _, found = whole
    assert budget_texts(found) == ["4/255", "12/255", "30/255"]
    assert budget_texts(replace(found, epsilons=np.array([0.1, 0.2]))) == ["0.1", "0.2"]
    assert budget_texts(replace(found, norm="l2")) == ["0.01569", "0.04706", "0.1176"]


def test_ticks_keep_apart(whole):
    crowded = replace(whole[1], epsilons=np.array([0.01, 0.1, 0.5, 0.95, 1.0]))
    assert ticks(crowded, 0.1) == [0.1, 0.5, 1.0]


def test_curves_as_a_picture_and_what_is_said_without_matplotlib(whole, tmp_path, monkeypatch):
    folder, found = whole
    picture = read_image(folder / "curves.png")
    assert picture.shape == (630, 1080, 3) and np.mean(picture == 1) > 0.5 and np.mean(picture < 0.9) > 0.01
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.warns(UserWarning, match=r"curves.png needs matplotlib.*pip install 'diffprog\[demos\]'"):
        found.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.txt"]


def test_what_is_a_picture():
    assert as_picture(np.zeros((9, 5))).shape == (9, 5, 1)
    assert as_picture(np.zeros((3, 9, 5))).shape == (9, 5, 3)
    assert as_picture(np.zeros((4, 9, 3))).shape == (4, 9, 3)
    assert as_picture(np.zeros(63)) is None and as_picture(np.zeros((4, 4, 7))) is None
    np.testing.assert_array_equal(as_picture(np.arange(16))[..., 0], np.arange(16).reshape(4, 4))
