"""Words, pairs of words, bars and listings."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import attribute
from diffprog.attribute import pictures
from diffprog.attribute._draw.colors import hex_color, scale_of
from tests.attribute.inside.programs import branches, line_of, oscillator

CREDIT = np.array([[0.3, -0.1, 0.02, 0.5, -0.4, 0.01]])


def test_words_have_the_colors_of_their_credit_and_nothing_of_theirs_is_run():
    words = ["the", "<b>cat</b>", "sat\x1b[31m", "on", "mats"]
    drawn = pictures.words(CREDIT, [words])
    scale = scale_of(CREDIT, 100)
    assert scale.limit == 0.5
    found = re.findall(r'<b class="(\w+)" style="background:(#\w+)" title="([-+.\d]+)">(.*?)</b>', drawn.page())
    assert [(color, float(value), word) for _, color, value, word in found] == [
        (hex_color(value, scale), value, word.replace("<", "&lt;").replace(">", "&gt;"))
        for value, word in zip(CREDIT[0], words, strict=False)
    ]
    assert [ink for ink, *_ in found] == ["dark", "light", "light", "dark", "dark"]
    assert "+0.01 goes to what fills the text up" in drawn.text and "\x1b[31m" not in drawn.text
    red, green, blue = (int(hex_color(0.5, scale)[i : i + 2], 16) for i in (1, 3, 5))
    assert f"\x1b[48;2;{red};{green};{blue}m\x1b[38;2;255;255;255m on \x1b[0m" in drawn.text


def test_credit_of_a_token_is_the_sum_over_its_features(tmp_path):
    values = np.random.default_rng(0).normal(size=(2, 3, 5))
    drawn = pictures.words({"embedded": values}, [["a", "b", "c"], ["d"]])
    found = [float(value) for value in re.findall(r'title="([-+.\de]+)"', drawn.body)]
    np.testing.assert_allclose(found, values.sum(axis=2).ravel()[:4], rtol=1e-3)
    path = drawn.save(tmp_path / "new" / "words.html")
    assert path.read_text(encoding="utf-8") == drawn.page() and "<style>" in drawn._repr_html_()
    for wrong, texts, sentence in [
        (values, [["a"]], "texts must be 2 lists of words"),
        (values, [["a"], ["a"] * 4], "at most 3 words for each example; found 4 words"),
        (values, ["ab", "c"], "found the text 'ab'"),
        (values[0, 0], [["a"]], "has shape"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            pictures.words(wrong, texts)


def test_pairs_are_a_matrix():
    credit = np.array([[0.3, -0.2], [0.05, 0.6], [0.0, np.nan]])
    drawn = pictures.pairs(credit, ["dog", "<cat>", "x"], ["a", "feline"], note="from zeros")
    cells = re.findall(r'<td class="\w+" style="background:(#\w+)">([-+.\dna]+)</td>', drawn.body)
    scale = scale_of(credit, 100)
    assert [color for color, _ in cells] == [hex_color(value, scale) for value in credit.ravel()]
    assert [value for _, value in cells] == ["+0.300", "-0.200", "+0.050", "+0.600", "+0.000", "+nan"]
    assert "&lt;cat&gt;" in drawn.body and drawn.text.endswith("from zeros")
    with pytest.raises(ValueError, match=r"credit must be \(2, 2\), a row for each word; found \(3, 2\)"):
        pictures.pairs(credit, ["a", "b"], ["c", "d"])


def test_bars_begin_with_the_largest_and_add_the_rest_up():
    result = attribute.gradient_times_input(lambda x: x @ jnp.array([1.0, -2.0, 0.5, 0.1]), np.ones((2, 4), np.float32))
    drawn = pictures.bars(result, ["age", "income", "<i>", "size"], values=[1, 2.5, "x", None], most=2, example=1)
    names = re.findall(r"<th>(.*?)</th>", drawn.body)
    assert names == ["income = 2.5", "age = 1", "2 others"]
    rows = drawn.text.splitlines()
    assert re.match(r"income = 2\.5 +-2 +█{10}│", rows[1]) and re.match(r"age = 1 +\+1 +│█{5}$", rows[2])
    assert re.match(r"2 others +\+0\.6$", rows[3]) and rows[4] == "score -0.400, of the baseline 0"
    widths = [float(width) for width in re.findall(r'<rect x="[\d.]+" y="1.5" width="([\d.]+)"', drawn.body)]
    assert widths == [50.0, 25.0]
    with pytest.raises(ValueError, match=r"bars show credit \(n, 3\), a number for each name; found \(2, 4\)"):
        pictures.bars(result, ["a", "b", "c"])


def test_a_listing_has_bars_beside_the_lines_that_explain():
    clean, corrupt = {"force": jnp.float32(0.3), "x": jnp.float32(1)}, {"force": jnp.float32(0.1), "x": jnp.float32(1)}
    result = attribute.patching(oscillator, clean, corrupt)
    drawn = pictures.listing(result)
    number = line_of(oscillator, "force")
    row = re.search(rf'<tr><td class="line number">{number}</td><td class="number">(.*?)</td>(.*?)</tr>', drawn.body)
    assert float(row[1]) == pytest.approx(result.by_line[0].credit, rel=1e-3)
    assert "a = p[&quot;force&quot;] - 0.5 * x  # force" in row[2] and 'width="50.00"' in row[2]
    assert drawn.text == str(result)
    went = attribute.patching(branches, jnp.float32(1.0), jnp.float32(-1.0))
    assert went.ways and all(way.replace("<", "&lt;") in pictures.listing(went).body for way in went.ways)
