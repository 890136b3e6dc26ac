"""Text: words colored by their credit, and the credit of pairs of words."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._draw.colors import scale_of
from diffprog.attribute._draw.draw import facts_of
from diffprog.attribute._draw.drawn import Drawn, ansi, legend_html, look, note_lines
from diffprog.attribute._inside.similarity import Similarity


def words(attribution: Any, texts: Sequence[Sequence[str]], *, title: str = "", limit: float | None = None) -> Drawn:
    """Draw the credit of words: orange for those that speak for the score, blue for those against it.

    Args:
      attribution: an `Attribution` of one score, or values: (n, tokens), or (n, tokens, features), which are added up;
        or a dict with one of them.
      texts: the words of each example, one text a token, or fewer, if the rest of the tokens only fill up; what credit
        these have is said.
      title: a line above all.
      limit: the credit of full color; by default the largest.

    Returns:
      A `Drawn`: print it in a terminal, show it in a notebook, or `save` the page.

    Raises:
      ValueError: credit and words do not fit.
    """
    values = per_token(attribution)
    if len(texts) != len(values):
        raise ValueError(f"texts must be {len(values)} lists of words, one for each example; found {len(texts)}")
    scale = scale_of(values, 100, limit)
    facts = facts_of(attribution) if isinstance(attribution, Attribution) else [()] * len(values)
    title = title or (attribution.method if isinstance(attribution, Attribution) else "words")
    lines, body = [title], [legend_html(scale)]
    for credit, tokens, notes in zip(values, texts, facts, strict=True):
        if isinstance(tokens, str) or len(tokens) > len(credit):
            found = f"the text {tokens!r}" if isinstance(tokens, str) else f"{len(tokens)} words"
            raise ValueError(f"texts must have a list of at most {len(credit)} words for each example; found {found}")
        rest = float(np.sum(credit[len(tokens) :]))
        told = [*notes, *([f"{rest:+.3g} goes to what fills the text up"] if rest else [])]
        pairs = list(zip(tokens, credit, strict=False))
        lines += ["", " ".join(ansi(f" {_plain(word)} ", value, scale) for word, value in pairs)]
        lines += [" ".join(f"{_plain(word)} {value:+.3g}" for word, value in pairs), *told]
        spans = " ".join(f'<b {look(value, scale)} title="{value:+.4g}">{escape(word)}</b>' for word, value in pairs)
        body += [f'<p class="text">{spans}</p>', note_lines(told)]
    return Drawn(title, "\n".join(lines), "".join(body))


def per_token(attribution: Any) -> np.ndarray:
    """Add credit up to one number for each token.

    Returns:
      float64 (n, tokens).

    Raises:
      ValueError: it has another shape.
    """
    values = attribution.values if isinstance(attribution, Attribution) else attribution
    if isinstance(values, Mapping):
        if len(values) != 1:
            raise ValueError(f"words show one place; found {len(values)}, {list(values)}: choose one of the values")
        (values,) = values.values()
    if getattr(values, "ndim", 0) not in (2, 3):
        found = getattr(values, "shape", type(values).__name__)
        raise ValueError(f"credit of words has shape (n, tokens) or (n, tokens, features); found {found}")
    values = np.asarray(values, np.float64)
    return values.sum(axis=2) if values.ndim == 3 else values


def pairs(
    credit: Any, rows: Sequence[str], columns: Sequence[str], *, title: str = "pairs of words", note: str = ""
) -> Drawn:
    """Draw the credit of pairs: a matrix of a row for each word of one text, and a column for each of another.

    Args:
      credit: array (rows, columns).
      rows: the words of the rows.
      columns: the words of the columns.
      title: a line above the matrix.
      note: a line below it.

    Returns:
      A `Drawn`.

    Raises:
      ValueError: credit and words do not fit.
    """
    credit = np.asarray(credit, np.float64)
    if credit.shape != (len(rows), len(columns)):
        raise ValueError(f"credit must be ({len(rows)}, {len(columns)}), a row for each word; found {credit.shape}")
    scale = scale_of(credit, 100)
    wide = max([len(_plain(row)) for row in rows], default=0)
    cells = max(7, *(len(_plain(column)) for column in columns))
    lines = [title, " " * wide + "".join(f" {_plain(column):>{cells}}" for column in columns)]
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = [f'<div class="scroll"><table class="matrix"><tr><th></th>{head}</tr>']
    for word, line in zip(rows, credit, strict=True):
        lines.append(f"{_plain(word):>{wide}}" + "".join(" " + ansi(f"{v:+.3f}".rjust(cells), v, scale) for v in line))
        found = "".join(f"<td {look(v, scale)}>{v:+.3f}</td>" for v in line)
        body.append(f'<tr><th class="number">{escape(word)}</th>{found}</tr>')
    lines += [note] if note else []
    return Drawn(title, "\n".join(lines), "".join([*body, "</table></div>", legend_html(scale), note_lines([note])]))


def _plain(word):
    """Replace the control characters of a word, which a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in word)


def similarity(result: Similarity, *, title: str = "") -> Drawn:
    """Draw why two texts are alike: the words of both, and the matrix of their pairs.

    Args:
      result: of `attribute.similarity`.
      title: a line above all.

    Returns:
      A `Drawn`.
    """
    longest = max(map(len, result.words))
    credit = np.zeros((2, longest))
    for row, values in enumerate(result.credit):
        credit[row, : len(values)] = values
    title = title or f"similarity {result.similarity:.3f}"
    texts = words(credit, result.words, title=title)
    first, second = (f"{start:.3f}" for start in result.baseline)
    gaps = ", ".join(f"{gap:.1g}" for gap in result.gap)
    note = (
        f"{first} with the words of the first text replaced, {second} with those of the second: what is missing to the "
        f"similarity is the sum of the words' credit, up to {gaps}"
    )
    matrix = pairs(
        result.pairs,
        *result.words,
        title="pairs of words",
        note=f"pairs add up to {result.pairs.sum():.3f} = {result.similarity:.3f} - ({first}) - ({second}) + "
        f"{result.empty:.3f} with both replaced, up to {result.pairs_gap:.1g}",
    )
    body = f"{texts.body}{note_lines([note])}{matrix.body}"
    return Drawn(title, f"{texts.text}\n{note}\n\n{matrix.text}", body)
