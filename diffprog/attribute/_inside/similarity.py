"""Which words make two texts alike: credit of words, and of pairs of words, from integrated Jacobians."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog.attribute._gradients.quadrature import nodes_and_weights
from diffprog.models import TextEncoder, Tokens


@dataclass(frozen=True, eq=False)
class Similarity:
    """Why an encoder takes two texts to be alike.

    Attributes:
      similarity: of the two texts: the cosine of their vectors.
      words: of the first and of the second text.
      credit: of each word, for the first text and for the second: what it adds to the similarity, compared with a text
        whose words say nothing, while the other text stays as it is.
      baseline: the similarity with the words of the first, or the second, text replaced so.
      gap: of each text, similarity - baseline - the sum of its credit: the error of the quadrature.
      empty: the similarity with the words of both texts replaced so.
      pairs: (words of the first, words of the second): what a word of one and a word of the other add together. The
        pairs add up to similarity - baseline[0] - baseline[1] + empty.
      pairs_gap: what is missing to that: the error of the quadrature.
      steps: points on the way.
    """

    similarity: float
    words: tuple[tuple[str, ...], tuple[str, ...]]
    credit: tuple[np.ndarray, np.ndarray]
    baseline: tuple[float, float]
    gap: tuple[float, float]
    empty: float
    pairs: np.ndarray
    pairs_gap: float
    steps: int

    def __str__(self) -> str:
        from diffprog.attribute._draw.words import similarity

        return str(similarity(self))

    def _repr_html_(self) -> str:
        from diffprog.attribute._draw.words import similarity

        return similarity(self)._repr_html_()


class _Parts(NamedTuple):
    """A text's vector taken apart: `parts` (pieces, width) add up to `vector` - `start`."""

    parts: np.ndarray
    vector: np.ndarray
    start: np.ndarray


@own_promotion()
def similarity(
    encoder: TextEncoder, first: str, second: str, *, baseline: str = "[PAD]", steps: int = 50
) -> Similarity:
    """Explain by their words why two texts are alike.

    On the way from a text whose words are all replaced by a sign that says nothing, each word's part of the change of
    the text's vector is integrated: the parts add up to the whole change. A word's credit is its part's product with
    the vector of the other text, as integrated gradients give it; the credit of a pair of words is the product of their
    parts: the integral of the mixed second derivative of the similarity.

    Args:
      encoder: of `diffprog.models.load_text`, or another `TextEncoder`.
      first: a text.
      second: a text.
      baseline: the word piece that says nothing, "[PAD]" or "[MASK]".
      steps: points on the way, of a Gauss-Legendre quadrature.

    Returns:
      A `Similarity`, which prints as colored words and a matrix of pairs.

    Raises:
      ValueError: a text has no words, or something else does not fit.

    References:
      Moeller, Nikolaev & Padó, "An attribution method for Siamese encoders", 2023. Sundararajan et al., "Axiomatic
      attribution for deep networks", 2017.
    """
    check_count(steps, "steps")
    blank = encoder.tokenizer.id_of(baseline)
    if encoder.tokenizer.vocabulary[blank] != baseline:
        raise ValueError(f"baseline must be a piece of the vocabulary, such as '[PAD]' or '[MASK]'; found {baseline!r}")
    tokens = [_tokens(encoder, text, name) for text, name in ((first, "first"), (second, "second"))]
    a, b = (_parts(encoder, each, blank, steps) for each in tokens)
    by_word = [_by_word(part.parts, each) for part, each in zip((a, b), tokens, strict=True)]
    score = float(a.vector @ b.vector)
    credit = by_word[0] @ b.vector, by_word[1] @ a.vector
    starts = float(a.start @ b.vector), float(b.start @ a.vector)
    pairs = by_word[0] @ by_word[1].T
    return Similarity(
        similarity=score,
        words=(tokens[0].words[0], tokens[1].words[0]),
        credit=credit,
        baseline=starts,
        gap=(score - starts[0] - float(credit[0].sum()), score - starts[1] - float(credit[1].sum())),
        empty=float(a.start @ b.start),
        pairs=pairs,
        pairs_gap=float((a.vector - a.start) @ (b.vector - b.start)) - float(pairs.sum()),
        steps=steps,
    )


def _tokens(encoder, text, name):
    if not isinstance(text, str):
        raise ValueError(f"{name} must be a text; found {type(text).__name__}")
    tokens = encoder.tokenize([text])
    if not tokens.words[0]:
        raise ValueError(f"{name} must have a word; found {text!r}")
    return tokens


def _parts(encoder, tokens, blank, steps):
    nodes, weights = nodes_and_weights("gauss_legendre", steps)
    is_word = tokens.word_of[0] >= 0
    rows = encoder.embed(tokens.ids)[0]
    start = encoder.embed(np.where(is_word, blank, tokens.ids[0])[None])[0]
    places = np.flatnonzero(is_word)
    # As many places as a multiple of eight, so that few programs are compiled; those too many are left out in the end.
    filled = np.resize(places, -(-len(places) // 8) * 8).astype(np.int32)
    parts, vector, first = _integrated(
        encoder.apply_embedded,
        encoder.parameters,
        start,
        rows,
        jnp.asarray(tokens.mask),
        jnp.asarray(filled),
        jnp.asarray(nodes, rows.dtype),
        jnp.asarray(weights, rows.dtype),
    )
    return _Parts(*(np.asarray(each, np.float64) for each in (parts[: len(places)], vector, first)))


@partial(jax.jit, static_argnums=0)
@own_promotion()
def _integrated(encode, parameters, start, end, mask, places, nodes, weights):
    """Integrate each piece's part of the change of the vector, (places, width); and give both ends' vectors."""
    vector = lambda rows: encode(parameters, rows[None], mask)[0]
    change = end - start
    # In each direction one piece moves, and the others stay.
    alone = jax.nn.one_hot(places, len(change), dtype=change.dtype)[..., None] * change

    def add(total, node):
        part, weight = node
        _, push = jax.linearize(vector, start + part * change)
        return total + weight * jax.vmap(push)(alone), None

    width = jax.eval_shape(vector, end).shape[0]
    total, _ = jax.lax.scan(add, jnp.zeros((len(alone), width), change.dtype), (nodes, weights))
    return total, vector(end), vector(start)


def _by_word(parts: np.ndarray, tokens: Tokens) -> np.ndarray:
    """Add the parts of word pieces up by word."""
    total = np.zeros((len(tokens.words[0]), parts.shape[1]))
    word_of = tokens.word_of[0]
    np.add.at(total, word_of[word_of >= 0], parts)
    return total
