"""WordPiece: texts to the pieces that BERT reads, with the words that the pieces came from."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

LONGEST_WORD = 100  # characters; a longer one is unknown
UNKNOWN, START, END, PADDING, MASK = "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"
STEP = 16  # lengths are rounded up to multiples of it, so that few programs are compiled
# Where Chinese characters are, each of which is a word.
IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Texts as a network reads them.

    Attributes:
      ids: int32 (n, length), filled up with the padding's id.
      mask: bool (n, length), False where it is filled up.
      pieces: of each text, as they stand in the vocabulary, from the start sign to the end sign.
      words: of each text, as they are written in it.
      word_of: int32 (n, length), the index of the word that a piece belongs to; -1 for signs and filling.
      num_cut: int (n,), how many pieces of each text were cut off.
    """

    ids: np.ndarray
    mask: np.ndarray
    pieces: tuple[tuple[str, ...], ...]
    words: tuple[tuple[str, ...], ...]
    word_of: np.ndarray
    num_cut: np.ndarray


@dataclass(frozen=True, eq=False)
class WordPieces:
    """The tokenizer of BERT models that know no capitals (`bert-base-uncased` and its kin).

    Characters that Unicode has got since 2015 are read by this Python's tables, and may be read otherwise elsewhere.

    Attributes:
      vocabulary: the pieces in the order of their ids; those within a word begin with "##".
      max_length: the most pieces of a text, with its two signs.
    """

    vocabulary: tuple[str, ...] = field(repr=False)
    max_length: int

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: index for index, piece in enumerate(self.vocabulary)}

    def __post_init__(self):
        missing = [sign for sign in (UNKNOWN, START, END, PADDING) if sign not in self._ids]
        if missing:
            raise ValueError(f"a vocabulary needs the signs {', '.join(missing)}; found {len(self.vocabulary)} pieces")

    def id_of(self, piece: str) -> int:
        """Look up the id of a piece.

        Args:
          piece: as it stands in the vocabulary.

        Returns:
          Its place there; that of "[UNK]" for what is not in it.
        """
        return self._ids.get(piece, self._ids[UNKNOWN])

    def pieces(self, text: str) -> list[tuple[str, int]]:
        """Split a text into pieces, each with the index of its word.

        A sign that is written in the text, such as "[SEP]", is text.

        Args:
          text: any text.

        Returns:
          (piece, index of its word) of each piece, without the signs of start and end.
        """
        return [(piece, index) for index, (word, _, _) in enumerate(split_words(text)) for piece in self._of_word(word)]

    def __call__(self, texts: Sequence[str], length: int | None = None) -> Tokens:
        """Read texts.

        Args:
          texts: a list of texts.
          length: pieces of each, with the signs; by default the most that one has, rounded up.

        Returns:
          `Tokens`.

        Raises:
          ValueError: it is no list of texts, or `length` is too small or too large.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts) or not len(texts):
            found = f"the text {texts!r}" if isinstance(texts, str) else f"{list(texts)!r:.60}"
            raise ValueError(f"texts must be a list of texts; found {found}")
        split = [self.pieces(text) for text in texts]
        if length is None:
            longest = max(len(pieces) for pieces in split) + 2
            length = min(-(-longest // STEP) * STEP, self.max_length)
        if not 3 <= length <= self.max_length:
            raise ValueError(f"length must be from 3 to {self.max_length}; found {length}")
        ids = np.full((len(texts), length), self.id_of(PADDING), np.int32)
        word_of = np.full((len(texts), length), -1, np.int32)
        num_cut = np.zeros(len(texts), np.int32)
        kept: list[tuple[str, ...]] = []
        words: list[tuple[str, ...]] = []
        for row, (text, pieces) in enumerate(zip(texts, split, strict=True)):
            num_cut[row] = max(len(pieces) - (length - 2), 0)
            shown = pieces[: length - 2]
            names = (START, *(piece for piece, _ in shown), END)
            ids[row, : len(names)] = [self.id_of(name) for name in names]
            word_of[row, 1 : len(shown) + 1] = [word for _, word in shown]
            read = max((word for _, word in shown), default=-1) + 1
            kept.append(names)
            words.append(tuple(text[start:end] for _, start, end in split_words(text)[:read]))
        mask = np.arange(length) < np.array([len(names) for names in kept])[:, None]
        return Tokens(ids, mask, tuple(kept), tuple(words), word_of, num_cut)

    def _of_word(self, word):
        """Take the longest piece that the vocabulary has, again and again."""
        if len(word) > LONGEST_WORD:
            return [UNKNOWN]
        pieces, start = [], 0
        while start < len(word):
            end = len(word)
            while end > start and (piece := "##" * (start > 0) + word[start:end]) not in self._ids:
                end -= 1
            if end == start:
                return [UNKNOWN]
            pieces.append(piece)
            start = end
        return pieces


def split_words(text: str) -> list[tuple[str, int, int]]:
    """Split a text into words: at white space, around punctuation, and around each Chinese character.

    Returns:
      For each word its small letters without accents, and where it begins and ends in the text.
    """
    words: list[tuple[str, int, int]] = []
    letters, start, end = "", 0, 0

    def finish():
        nonlocal letters
        if letters:
            words.append((letters, start, end))
            letters = ""

    for place, character in enumerate(text):
        kind = _kind(character)
        if kind == "space":
            finish()
            continue
        for part in _plain(character):
            if kind == "alone" or _is_punctuation(part):
                finish()
                words.append((part, place, place + 1))
            else:
                start, end = (start if letters else place), place + 1
                letters += part
    finish()
    return words


@lru_cache(maxsize=65536)
def _kind(character: str) -> str:
    if character in "\t\n\r" or (character.isspace() and unicodedata.category(character) != "Cc"):
        return "space"
    if any(first <= ord(character) <= last for first, last in IDEOGRAPHS):
        return "alone"
    return "letter"


@lru_cache(maxsize=65536)
def _plain(character: str) -> str:
    """Drop a character that nobody sees; else take its accents off, and its capitals, one character at a time."""
    if character == "\N{REPLACEMENT CHARACTER}" or unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs"):
        return ""
    letters = "".join(c for c in unicodedata.normalize("NFD", character) if unicodedata.category(c) != "Mn")
    return "".join(c.lower() for c in letters)


@lru_cache(maxsize=65536)
def _is_punctuation(character: str) -> bool:
    """Whether a character is punctuation to BERT: all signs of ASCII are, "$" and "^" among them."""
    code = ord(character)
    is_sign = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return is_sign or unicodedata.category(character).startswith("P")
