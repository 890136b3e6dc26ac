"""The gallery's files, and its page in a real browser."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from diffprog import images
from diffprog._util.file_names import file_name
from diffprog.visualize.gallery import Card, gallery_from, read_cards, save_card, write_gallery
from diffprog.visualize.gallery._write import HEIGHT, WIDTH, history_curves
from tests import browser

HOSTILE = 'a</script><img src=x onerror="boom()">&"\''


def picture(color, size=24):
    return np.full((size, size, 3), color, np.float32)


def cards():
    rise = [1.0, 2.5, 4.0]
    return [
        Card(
            "blocks.10:3",
            picture([0.8, 0.2, 0.1]),
            "blocks.10",
            3,
            "fur and whiskers",
            "default",
            0,
            3,
            rise,
            {"channel": [2.0, 3, 5], "penalty": [-1.0, -0.5, -1]},
            {"activation": 4.0, "natural_maximum": 2.0, "natural_ratio": 2.0, "robust_ratio": 0.5, "my score": 7.0},
            [picture([0.1, 0.9, 0.3], 200), picture([0.4, 0.4, 0.9], 30)],
            ["blocks.2:1", "elsewhere:9"],
        ),
        Card("blocks.2:1", picture([0.1, 0.5, 0.9]), "blocks.2", 1, "gratings", scores={"natural_ratio": 9.5}),
        Card("volcano", picture([0.9, 0.8, 0.1]), caption=HOSTILE, scores={"natural_ratio": math.nan, "my score": 8.0}),
    ]


def test_cards_come_back_from_their_files(tmp_path):
    for card in cards():
        assert save_card(tmp_path, card).name == f"{file_name(card.unit)}.json"
    (tmp_path / "job.json").write_text("not a card's, since there is no job.png")
    found = read_cards(tmp_path)
    assert [card.unit for card in found] == ["blocks.2:1", "blocks.10:3", "volcano"]  # numbers count as numbers
    for ours, theirs in zip([found[1], found[0], found[2]], cards(), strict=True):
        for name in ("unit", "layer", "channel", "caption", "recipe", "seed", "steps"):
            assert getattr(ours, name) == getattr(theirs, name)
        np.testing.assert_equal([*ours.scores.items()], [*theirs.scores.items()])
        assert (list(ours.history), dict(ours.term_histories)) == (
            list(theirs.history),
            dict(theirs.term_histories),
        )
        assert list(ours.neighbors) == list(theirs.neighbors)
        np.testing.assert_allclose(ours.picture, theirs.picture, atol=1 / 255)
        assert [np.shape(image) for image in ours.dataset_examples] == [
            np.shape(image) for image in theirs.dataset_examples
        ]
    assert json.loads((tmp_path / "volcano.json").read_text())["scores"]["natural_ratio"] is None


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", r"x\.json: not JSON .*; write it anew"),
        ("[1]", r"""x\.json: a card is an object with a "unit", its name; found '\[1\]'"""),
        ('{"unit": "x", "seed": "7"}', r"x\.json: 'seed' cannot be '7'; see"),
        ('{"unit": "x", "scores": {"a": "high"}}', r"x\.json: 'scores' cannot be "),
        ('{"unit": "x", "dataset_examples": ["../../secret.png"]}', r"'\.\./\.\./secret\.png' lies outside the folder"),
        ('{"unit": "x", "dataset_examples": ["gone.png"]}', r"gone\.png: no such file"),
    ],
)
def test_a_file_that_is_no_card_is_named(tmp_path, text, message):
    images.save_png(tmp_path / "x.png", picture([1, 0, 0]))
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_cards(tmp_path)


def test_a_damaged_card_does_not_lose_the_others(tmp_path):
    for card in cards():
        path = save_card(tmp_path, card)
    path.write_text("{")
    with pytest.warns(UserWarning, match=r"a card is left out: .*volcano\.json: not JSON"):
        assert len(read_cards(tmp_path)) == 2


def test_a_card_under_a_former_name_gives_way_to_the_one_under_its_own(tmp_path):
    path = save_card(tmp_path, cards()[1])
    for suffix in (".json", ".png"):
        path.with_suffix(suffix).rename(tmp_path / f"blocks.2_1{suffix}")
    assert [card.caption for card in read_cards(tmp_path)] == ["gratings"]
    save_card(tmp_path, replace(cards()[1], caption="newer"))
    assert [card.caption for card in read_cards(tmp_path)] == ["newer"]


def test_a_gallery_of_nothing_or_of_a_unit_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there are no cards in"):
        gallery_from(tmp_path)
    with pytest.raises(ValueError, match="found none"):
        write_gallery(tmp_path, [])
    with pytest.raises(ValueError, match="found two of 'volcano'"):
        write_gallery(tmp_path, [*cards(), cards()[2]])
    assert list(tmp_path.iterdir()) == []


def test_the_page_is_whole_and_the_sheet_shows_every_picture(tmp_path):
    path = write_gallery(tmp_path, cards(), title=HOSTILE)
    text = path.read_text()
    assert path == tmp_path / "index.html" and "$" not in re.sub(r"\$\{", "", text.split("<script>")[0])
    assert not re.search(r"(src|href)=\"(?!data:)", text) and "<img src=x" not in text and text.count("</script>") == 1
    sheet = images.read_image(tmp_path / "contact_sheet.png")
    found = {tuple(color) for color in np.round(sheet.reshape(-1, 3), 1)}
    for card in cards():
        assert tuple(np.round(card.picture[0, 0], 1)) in found


def test_curves_go_through_the_values():
    card = Card(
        "x",
        picture([0, 0, 0]),
        history=[0.0, 5.0, 10.0],
        term_histories={"<b>": [10.0, math.nan, 2.0]},
        scores={"natural_maximum": 20.0},
    )
    drawn = history_curves(card)
    up = lambda value: f"{HEIGHT - 3 - (HEIGHT - 6) * value / 20:g}"
    first, second = re.findall(r'class="line l\d" d="([^"]*)"', drawn)[::-1]
    assert first == f"M0 {up(0)}L{WIDTH // 2} {up(5)}L{WIDTH} {up(10)}"
    assert second == f"M0 {up(10)}M{WIDTH} {up(2)}"  # interrupted where nothing is known
    assert f'class="level" d="M0 {up(20)}H{WIDTH}"' in drawn and "&lt;b&gt;" in drawn and "3 steps, 0 to 20" in drawn
    assert history_curves(Card("x", picture([0, 0, 0]))) == ""
    assert history_curves(Card("x", picture([0, 0, 0]), history=[math.nan])) == ""
    many = history_curves(Card("x", picture([0, 0, 0]), history=np.arange(5000.0)))
    assert many.count("L") == 149 and f"L{WIDTH} {up(20)}" in many


in_browser = pytest.mark.skipif(browser.why_not() is not None, reason=str(browser.why_not()))


@pytest.fixture
def show(visit, tmp_path):
    """The gallery's page."""

    def open_page(width=1280, height=800, fragment="", **options):
        return visit(write_gallery(tmp_path, cards(), **options).as_uri() + fragment, width, height)

    return open_page


def units(page):
    # Not their inner texts: what is outside the window is not laid out.
    return page.locator("#cards .card:visible h2").all_text_contents()


@in_browser
def test_search_narrows_as_one_types(show):
    page = show()
    assert page.locator("#status").inner_text() == "3 units"
    page.keyboard.press("/")
    page.keyboard.type("blocks FUR")
    assert units(page) == ["blocks.10:3"] and page.locator("#status").inner_text() == "1 of 3 units"
    page.locator("#search").fill("nothing like it")
    assert units(page) == [] and "nothing like it" in page.locator("#status").inner_text()
    page.keyboard.press("Escape")
    assert len(units(page)) == 3


@in_browser
def test_sorting_by_a_score_puts_the_unknown_last(show):
    page = show()
    assert page.locator("#sort option").all_inner_texts()[0] == "In order"
    page.locator("#sort").select_option(label="over natural maximum")
    assert units(page) == ["blocks.2:1", "blocks.10:3", "volcano"]
    page.locator("#turn").click()
    assert units(page) == ["blocks.10:3", "blocks.2:1", "volcano"]
    page.locator("#sort").select_option(label="my score")
    assert units(page) == ["blocks.10:3", "volcano", "blocks.2:1"]
    page.locator("#sort").select_option(label="In order")
    page.locator("#turn").click()
    assert units(page) == ["blocks.10:3", "blocks.2:1", "volcano"]


@in_browser
def test_a_click_or_enter_enlarges_and_arrows_walk(show):
    page = show()
    page.locator(".picture").first.click()
    large = page.locator("#large")
    assert large.locator("img").first.evaluate("(img) => img.complete && img.naturalWidth") == 24
    text = large.inner_text()
    for expected in ("blocks.10:3", "fur and whiskers", "default", "my score", "3 steps, -1 to 5", "penalty"):
        assert expected in text
    assert large.locator(".examples img").evaluate_all("(all) => all.map((img) => img.naturalWidth)") == [112, 30]
    assert large.get_by_role("button", name="elsewhere:9").is_disabled()
    large.get_by_role("button", name="blocks.2:1").click()
    assert large.locator("h2").inner_text() == "blocks.2:1" and page.url.endswith("#blocks.2%3A1")
    page.keyboard.press("ArrowRight")
    assert large.locator("h2").inner_text() == "volcano"
    page.keyboard.press("ArrowRight")
    page.locator("#back").click()
    assert large.locator("h2").inner_text() == "volcano"
    assert HOSTILE in large.locator(".caption").inner_text()
    page.keyboard.press("Escape")
    browser.wait_until(page, "() => !location.hash")
    assert large.is_hidden()
    page.keyboard.press("Enter")  # the focus is on the card that was left
    assert large.locator("h2").inner_text() == "volcano"


@in_browser
def test_a_link_opens_its_unit_and_a_phone_shows_all_of_it(show):
    page = show(width=390, height=780, fragment="#blocks.10%3A3", title=HOSTILE)
    assert page.locator("#large h2").inner_text() == "blocks.10:3"
    fits = "() => document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(fits) and page.evaluate("() => large.scrollWidth <= large.clientWidth")
    page.locator("#close").click()
    assert page.evaluate(fits) and page.locator("h1").inner_text() == HOSTILE
    boxes = [page.locator(".picture").nth(number).bounding_box() for number in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[1]["x"] > boxes[0]["x"]  # two columns
    assert page.locator("#turn").bounding_box()["height"] >= 44
