"""Why two texts are alike: parts of words and of pairs of words."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import attribute
from diffprog.attribute import pictures
from tests.models.test_text_encoder import minilm, tiny

FIRST, SECOND = "w1 w2 w3 w4", "w9 w5 w2"


def lively():
    """The small network, with words that matter: as it is, the biases of its last layer are nearly all."""
    encoder, _ = tiny()
    last = encoder.parameters["layers"][-1]
    norm = {"scale": jnp.ones(24, jnp.float32), "bias": jnp.zeros(24, jnp.float32)}
    layers = [*encoder.parameters["layers"][:-1], {**last, "norm": norm}]
    words = 4 * encoder.parameters["words"]
    return dataclasses.replace(encoder, parameters={**encoder.parameters, "words": words, "layers": layers})


@pytest.fixture(scope="module")
def found():
    return attribute.similarity(lively(), FIRST, SECOND, steps=40)


def test_words_and_pairs_add_up(found):
    encoder = lively()
    vector = lambda text: np.asarray(encoder([text])[0], np.float64)
    assert found.similarity == pytest.approx(vector(FIRST) @ vector(SECOND), abs=1e-5)
    for text in range(2):
        total = found.baseline[text] + found.credit[text].sum() + found.gap[text]
        assert total == pytest.approx(found.similarity, abs=1e-9) and abs(found.gap[text]) < 1e-4
    whole = found.similarity - sum(found.baseline) + found.empty
    assert found.pairs.sum() + found.pairs_gap == pytest.approx(whole, abs=1e-6) and abs(found.pairs_gap) < 1e-4
    assert found.words == (tuple(FIRST.split()), tuple(SECOND.split())) and found.pairs.shape == (4, 3)


def test_credit_of_words_is_that_of_integrated_gradients(found):
    encoder = lively()
    first, second = encoder.tokenize([FIRST]), encoder([SECOND])
    mask = jnp.asarray(first.mask)
    blank = np.where(first.word_of >= 0, 0, first.ids)
    result = attribute.integrated_gradients(
        lambda inputs: encoder.apply(encoder.parameters, inputs["ids"], inputs["mask"]) @ second[0],
        {"ids": jnp.asarray(first.ids), "mask": mask},
        at="word_embeddings",
        baseline={"ids": jnp.asarray(blank), "mask": mask},
        steps=40,
    )
    credit = np.asarray(result.values["word_embeddings"])[0].sum(axis=1)
    np.testing.assert_allclose(found.credit[0], credit[1:5], atol=2e-5)
    assert found.baseline[0] == pytest.approx(float(result.baseline_score[0]), abs=1e-5)
    np.testing.assert_allclose(credit[[0, *range(5, 16)]], 0, atol=1e-6)  # signs do not change


def test_credit_of_pairs_is_the_integrated_mixed_second_derivative(found):
    """By jax.hessian at the nodes of both ways."""
    encoder = lively()
    texts = [encoder.tokenize([text]) for text in (FIRST, SECOND)]
    ends = [encoder.embed(tokens.ids)[0] for tokens in texts]
    starts = [encoder.embed(np.where(tokens.word_of >= 0, 0, tokens.ids))[0] for tokens in texts]
    places = [np.flatnonzero(tokens.word_of[0] >= 0) for tokens in texts]
    nodes, weights = np.polynomial.legendre.leggauss(12)
    nodes, weights = jnp.asarray((nodes + 1) / 2, jnp.float32), jnp.asarray(weights / 2, jnp.float32)

    def score(a, b, x, y):
        """Of texts whose words have gone parts a and b of the way, beyond x and y of it."""
        vectors = []
        for extra, part, start, end, place, tokens in zip((a, b), (x, y), starts, ends, places, texts, strict=True):
            moved = jnp.full(len(start), part).at[place].add(extra)
            rows = start + moved[:, None] * (end - start)
            vectors.append(encoder.apply_embedded(encoder.parameters, rows[None], jnp.asarray(tokens.mask))[0])
        return vectors[0] @ vectors[1]

    mixed = jax.jacfwd(jax.grad(score, 0), 1)
    zeros = jnp.zeros(4, jnp.float32), jnp.zeros(3, jnp.float32)
    grid = jax.jit(jax.vmap(jax.vmap(lambda x, y: mixed(*zeros, x, y), (None, 0)), (0, None)))(nodes, nodes)
    np.testing.assert_allclose(found.pairs, jnp.einsum("i,j,ijab->ab", weights, weights, grid), atol=1e-3)


def test_it_is_drawn(found):
    drawn = pictures.similarity(found)
    assert str(found) == drawn.text and found._repr_html_() == drawn._repr_html_()
    assert f"similarity {found.similarity:.3f}" in drawn.text and f"{found.pairs[0, 0]:+.3f}" in drawn.body
    assert f'title="{found.credit[1][2]:+.4g}">w2</b>' in drawn.body


@pytest.mark.parametrize(
    ("first", "options", "sentence"),
    [
        (" ", {}, "first must have a word; found ' '"),
        (3, {}, "first must be a text; found int"),
        ("w1", {"baseline": "[NONE]"}, r"baseline must be a piece of the vocabulary, such as '\[PAD\]' or '\[MASK\]'"),
        ("w1", {"steps": 0}, "steps must be"),
    ],
)
def test_bad_input_gets_one_sentence(first, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        attribute.similarity(tiny()[0], first, SECOND, **options)


@minilm
@pytest.mark.slow
def test_a_cat_is_like_a_kitten_and_a_mat_like_a_rug():
    from diffprog import models

    found = attribute.similarity(models.load_text(), "A cat sits on the mat.", "A kitten is resting on a rug.")
    assert found.similarity == pytest.approx(0.655, abs=1e-3) and abs(found.pairs_gap) < 1e-4
    first, second = found.words
    best = {word: second[index] for word, index in zip(first, found.pairs.argmax(axis=1), strict=True)}
    assert (best["cat"], best["sits"], best["on"], best["mat"]) == ("kitten", "resting", "on", "rug")


@minilm
@pytest.mark.slow
def test_the_example_of_the_docs_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[3] / "docs" / "attribution.md"
    (source,) = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    exec(source, {})
    assert "similarity 0.655" in capsys.readouterr().out and (tmp_path / "out" / "similarity.html").is_file()
