"""CLIP's tokenizer: texts to the ids of pairs of bytes that were merged again and again."""

import gzip
import itertools
import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffprog._util.numbers import check_count
from diffprog.clip._text_repair import cleaned

LENGTH = 77  # tokens of a text, start and end included
START, END = 49406, 49407
VOCABULARY_SIZE = 49408
SPECIAL = {"<|startoftext|>": START, "<|endoftext|>": END}
# What comes before letters, digits and signs. A long s counts as an s, as where the original ignores case.
APART = re.compile("|".join(map(re.escape, SPECIAL)) + "|'s|'t|'re|'ve|'m|'ll|'d", re.IGNORECASE)


class Vocabulary(NamedTuple):
    """Ids of symbols, and the ranks of the pairs that are merged, the first one first."""

    ids: dict[str, int]
    ranks: dict[tuple[str, str], int]


def tokenize(texts: Sequence[str] | str, *, truncate: bool = False, length: int = LENGTH) -> np.ndarray:
    """Read texts as OpenAI's CLIP does.

    A text is repaired, stripped of HTML's entities, capitals and superfluous white space, split into words, digits and
    signs, and these into byte pairs. 77 tokens are about 50 English words, far fewer in other languages. The library
    ftfy repairs texts whose encoding was mistaken if it is installed; without it, there is a warning where it would
    matter.

    Args:
      texts: A list of texts, or one text.
      truncate: Cut texts that are too long, with a warning that says how much; otherwise they are an error.
      length: Tokens of each text, with those of start and end.

    Returns:
      int32 (n, length): 49406, the text, 49407, and zeros.

    Raises:
      ValueError: It is no list of texts, or a text is too long.

    References:
      Radford et al., "Learning transferable visual models from natural language supervision", 2021. Sennrich et al.,
      "Neural machine translation of rare words with subword units", 2016.
    """
    texts, length = checked_texts(texts), check_count(length, "length", least=3)
    rows, num_cut = np.zeros((len(texts), length), np.int32), np.zeros(len(texts), int)
    for index, text in enumerate(texts):
        tokens = token_ids(text)
        num_cut[index] = max(len(tokens) + 2 - length, 0)
        kept = [START, *tokens[: length - 2], END]
        rows[index, : len(kept)] = kept
    if num_cut.any():
        first = int(num_cut.argmax())
        found = (
            f"text {first} has {num_cut[first] + length} tokens, and CLIP reads {length} (start and end included; a "
            "word is one or more of them)"
        )
        if not truncate:
            raise ValueError(f"{found}: shorten it, or let its last {num_cut[first]} be cut off by truncate=True")
        too_long = f"{(num_cut > 0).sum()} of {len(texts)} texts are too long"
        warnings.warn(f"{found}: the last {num_cut[first]} are cut off ({too_long})", stacklevel=2)
    return rows


def checked_texts(texts: Sequence[str] | str) -> list[str]:
    """Check a list of texts; one text is a list of one.

    Raises:
      ValueError: It is something else, or empty.
    """
    texts = [texts] if isinstance(texts, str) else texts
    try:
        listed = list(texts)
    except TypeError:
        listed = []
    if not listed or not all(isinstance(text, str) for text in listed):
        raise ValueError(f"texts must be a list of texts; found {texts!r:.60}")
    return [str(text) for text in listed]  # of NumPy's kind, too


def token_ids(text: str) -> list[int]:
    """Give the ids of a text's tokens, without start and end; "<|endoftext|>" in it is the end, as in the original."""
    return [token for word in _words(cleaned(text)) for token in _tokens_of(word)]


def _words(text: str) -> Iterator[str]:
    """Split a cleaned text: special tokens, English endings, runs of letters, single digits, runs of other signs."""
    place = 0
    while place < len(text):
        start, kind = place, _kind(text[place])
        apart = APART.match(text, place)
        place = apart.end() if apart else place + 1
        if not apart and kind in "LS":
            while place < len(text) and _kind(text[place]) == kind:
                place += 1
        if apart or kind != " ":
            yield text[start:place]


@lru_cache(maxsize=65536)
def _kind(character: str) -> str:
    """Say whether a character is a letter "L", a number "N", white space " " or another sign "S"."""
    category = unicodedata.category(character)[0]
    if category in "LN":
        return category
    # The small iota below a letter is neither letter nor sign where case is ignored: the original skips it.
    return " " if character.isspace() or character == "\N{COMBINING GREEK YPOGEGRAMMENI}" else "S"


@lru_cache(maxsize=65536)
def _tokens_of(word: str) -> tuple[int, ...]:
    """Merge the bytes of a word, always the pair that was merged first when the vocabulary was made."""
    if word in SPECIAL:
        return (SPECIAL[word],)
    vocabulary = _vocabulary()
    symbols = [BYTES[byte] for byte in word.encode("utf-8")]
    symbols[-1] += "</w>"
    while len(symbols) > 1:
        pairs = list(itertools.pairwise(symbols))
        pair = min(pairs, key=lambda pair: vocabulary.ranks.get(pair, len(vocabulary.ranks)))
        if pair not in vocabulary.ranks:
            break
        symbols = _merged(symbols, pair)
    return tuple(vocabulary.ids[symbol] for symbol in symbols)


def _merged(symbols, pair):
    merged, place = [], 0
    while place < len(symbols):
        if tuple(symbols[place : place + 2]) == pair:
            merged.append(pair[0] + pair[1])
            place += 2
        else:
            merged.append(symbols[place])
            place += 1
    return merged


@lru_cache(maxsize=1)
def _vocabulary() -> Vocabulary:
    """Read the merges; the symbols are the bytes, the bytes at the end of a word, and what merges make."""
    data = Path(__file__).with_name("data").joinpath("merges.txt.gz").read_bytes()
    pairs = [(first, second) for first, second in map(str.split, gzip.decompress(data).decode("utf-8").splitlines())]
    single = sorted(BYTES)
    symbols = [*single, *(sign + "</w>" for sign in single), *(first + second for first, second in pairs)]
    return Vocabulary(
        {symbol: index for index, symbol in enumerate(symbols)}, {pair: rank for rank, pair in enumerate(pairs)}
    )


def _visible_bytes() -> list[str]:
    """Write each byte as a character that can be seen: its own in Latin-1, or one from 256 on (GPT-2's table)."""
    hidden = [code for code in range(256) if not (33 <= code <= 126 or 161 <= code <= 172 or 174 <= code)]
    return [chr(256 + hidden.index(code)) if code in hidden else chr(code) for code in range(256)]


BYTES = _visible_bytes()
