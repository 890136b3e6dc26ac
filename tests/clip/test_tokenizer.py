"""CLIP's tokens, held against those of OpenAI's own code (openai-clip 1.0.1 with ftfy 6.3.1 and regex 2026.11)."""

import hashlib
import importlib.util
import warnings

import numpy as np
import pytest

from diffprog import clip
from diffprog.clip._text_repair import cleaned
from diffprog.clip._tokenizer import token_ids
from tests.clip.texts import GIVEN, texts

QUESTION = "What is the answer to the ultimate question of life, the universe, and everything?"


@pytest.fixture(params=["with ftfy", "without ftfy"])
def repair(request, monkeypatch):
    if request.param == "with ftfy":
        pytest.importorskip("ftfy")
    else:
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: None if name == "ftfy" else find(name, *rest)
        )


def test_published_tokens():
    assert clip.tokenize(["a red heart"])[0, :6].tolist() == [49406, 320, 736, 1936, 49407, 0]
    given = "49406 768 533 518 4518 531 518 5377 4382 539 970 267 518 6104 267 537 2410 286 49407"
    assert clip.tokenize(QUESTION)[0, :19].tolist() == [int(token) for token in given.split()]
    tokens = clip.tokenize(["", "!", "a"])
    assert tokens.dtype == np.int32 and tokens.shape == (3, 77)
    assert tokens[:2, :4].tolist() == [[49406, 49407, 0, 0], [49406, 256, 49407, 0]]


def test_tokens_are_the_originals(repair):
    for text, wanted in GIVEN["texts"]:
        assert token_ids(text) == wanted, ascii(text)


def test_tokens_of_ten_thousand_texts_are_the_originals(repair):
    """A digest for each hundred; which texts differ, if one does, is found with the original beside it."""
    made = texts(10_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 243 are too long
        tokens = clip.tokenize(made, truncate=True)
    blocks = tokens.astype("<i4").reshape(100, -1)
    differing = [i for i in range(100) if hashlib.sha256(blocks[i].tobytes()).hexdigest()[:8] != GIVEN["digests"][i]]
    assert differing == []
    assert (tokens[:, -1] == 49407).sum() >= 243


def test_a_mistaken_encoding_is_repaired_or_said(repair, request):
    for text, wanted in GIVEN["mistaken encodings"]:
        if "without" in request.node.name:
            with pytest.warns(UserWarning, match="as if its encoding had been mistaken .*run `pip install ftfy`"):
                token_ids(text)
        else:
            assert token_ids(text) == wanted, ascii(text)


def test_what_is_well_encoded_gets_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cleaned("P&EACUTE;REZ &AMP; STRA&SZLIG;E &NTILDe;") == "p\u00e9rez & strasse &ntilde;"
        assert cleaned("CAF\u00c9 d\u00e9j\u00e0  vu \u2014 \u201cna\u00efve\u201d &amp;lt; \u00c5ngstr\u00f6m\n") == (
            'caf\u00e9 d\u00e9j\u00e0 vu \u2014 "na\u00efve" < \u00e5ngstr\u00f6m'
        )


def test_too_long_a_text_is_an_error_or_cut_as_the_original_cuts_it():
    long = "cat " * 80
    with pytest.raises(
        ValueError, match=r"text 1 has 82 tokens, and CLIP reads 77 .*its last 5 be cut off by truncate"
    ):
        clip.tokenize(["a", long])
    with pytest.warns(UserWarning, match=r"text 1 has 82 tokens.*the last 5 are cut off \(1 of 2 texts are too long\)"):
        tokens = clip.tokenize(["a", long], truncate=True)
    assert tokens[1].tolist() == [49406] + [2368] * 75 + [49407]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert clip.tokenize(["cat " * 75])[0, -1] == 49407  # just fits
    assert clip.tokenize(["a"], length=5).tolist() == [[49406, 320, 49407, 0, 0]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"texts": []}, r"texts must be a list of texts; found \[\]"),
        ({"texts": [1, "a"]}, r"texts must be a list of texts; found \[1, 'a'\]"),
        ({"texts": 3}, "texts must be a list of texts; found 3"),
        ({"texts": ["a"], "length": 2}, "length must be a whole number of at least 3; found 2"),
    ],
)
def test_bad_texts_get_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        clip.tokenize(**arguments)
