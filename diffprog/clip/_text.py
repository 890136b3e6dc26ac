"""CLIP's text tower as a value: tokens through blocks of causal attention, read off at the end of the text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.promotion import own_promotion
from diffprog.clip._tokenizer import tokenize
from diffprog.clip._transformer import Kind, block, normalized, product, unit
from diffprog.clip._vit import EMBEDDING
from diffprog.graph import tap

BATCH = 32  # texts or pictures of one run of a compiled program
STEP = 16  # lengths of texts are rounded up to multiples of it, so that few programs are compiled
WORDS = "word_embeddings"  # the tap on what the table gives for each token, which `load_text("minilm")` has too


@dataclass(frozen=True, eq=False)
class TextTower:
    """A network that makes a vector of length 1 of a text, in the space of the pictures' vectors.

    Attributes:
      name: For messages and captions.
      parameters: Pytree of arrays.
      kind: Heads, activation, epsilon.
    """

    name: str
    parameters: Any = field(repr=False)
    kind: Kind

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return int(self.parameters["projection"].shape[1])

    @property
    def length(self) -> int:
        """Tokens that are read, with those of start and end: 77 in OpenAI's networks."""
        return int(self.parameters["places"].shape[0])

    def tokenize(self, texts: Sequence[str] | str, *, truncate: bool = False) -> np.ndarray:
        """Read texts as tokens.

        Args:
          texts: A list of texts, or one text.
          truncate: Cut texts that are too long, with a warning; otherwise they are an error.

        Returns:
          int32 (n, length).

        Raises:
          ValueError: It is no list of texts, or a text is too long.
        """
        return tokenize(texts, truncate=truncate, length=self.length)

    def embed(self, tokens: jax.Array) -> jax.Array:
        """Look tokens up in the table.

        Args:
          tokens: int (n, length).

        Returns:
          float32 (n, length, width).
        """
        return _embedded(self.parameters, tokens)

    def apply(self, parameters: Any, tokens: jax.Array) -> jax.Array:
        """Compute vectors in plain JAX, unchecked and uncompiled, for grad, jit and vmap.

        What the table gives for each token is under `dp.tap("word_embeddings")`, which `at=` of attributions and
        `dp.grad_at` find; blocks are under "text.blocks.0" and so on, the vectors under "text.embedding".

        Args:
          parameters: The tower's, or others like them.
          tokens: int (n, length), of any length that is not longer than the tower's.

        Returns:
          float32 (n, width), each of length 1.
        """
        return self.apply_embedded(parameters, _embedded(parameters, tokens), tokens)

    @own_promotion()
    def apply_embedded(self, parameters: Any, rows: jax.Array, tokens: jax.Array) -> jax.Array:
        """Compute vectors of what the table of tokens gives, or of anything else in its place.

        Args:
          parameters: The tower's, or others like them.
          rows: float (n, length, width).
          tokens: int (n, length), whose largest, the end of the text, is where the answer stands.

        Returns:
          float32 (n, width), each of length 1.
        """
        x = tap(rows, WORDS) + parameters["places"][: rows.shape[1]]
        for index, weights in enumerate(parameters["blocks"]):
            x = block(x, weights, self.kind, f"text.blocks.{index}").output
        ends = jnp.argmax(jnp.asarray(tokens), axis=1)[:, None, None]
        last = jnp.take_along_axis(x, ends, axis=1, mode="clip")[:, 0]
        last = normalized(last, parameters["last_norm"], self.kind.epsilon)
        return tap(unit(product("ni,io->no", last, parameters["projection"])), f"text.{EMBEDDING}")

    def __call__(self, texts: Sequence[str] | str, *, truncate: bool = False) -> jax.Array:
        """Compute the vectors of texts, compiled, in batches of similar lengths.

        Args:
          texts: A list of texts, or one text.
          truncate: Cut texts that are too long, with a warning; otherwise they are an error.

        Returns:
          float32 (n, width), each of length 1. A text's vector does not depend on the other texts but by rounding.

        Raises:
          ValueError: It is no list of texts, or a text is too long.
        """
        tokens = self.tokenize(texts, truncate=truncate)
        lengths = tokens.argmax(axis=1) + 1  # what comes behind the end is not seen from there
        order = np.argsort(lengths, kind="stable")
        vectors = np.zeros((len(tokens), self.width), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            length = min(-(-int(lengths[rows].max()) // STEP) * STEP, self.length)
            with jax.ensure_compile_time_eval():  # texts are known, whatever is traced around this
                found = self._compiled(self.parameters, tokens[filled(rows), :length])
            vectors[rows] = np.asarray(found)[: len(rows)]
        return jnp.asarray(vectors)

    @cached_property
    def _compiled(self):
        return jax.jit(self.apply)


@own_promotion()
def _embedded(parameters, tokens):
    return jnp.take(parameters["words"], jnp.asarray(tokens), axis=0, mode="clip")


def filled(rows: np.ndarray) -> np.ndarray:
    """Repeat rows until they are as many as a power of two, so that few programs are compiled."""
    return np.resize(rows, (min(1 << (len(rows) - 1).bit_length(), BATCH), *rows.shape[1:]))
