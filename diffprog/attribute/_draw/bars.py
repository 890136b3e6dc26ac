"""Tables and programs: bars beside names, and bars beside the lines of a program."""

import linecache
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from diffprog._util.tables import text_table
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._draw.colors import number, scale_of
from diffprog.attribute._draw.draw import facts_of
from diffprog.attribute._draw.drawn import Drawn, bar_cell, bar_text, note_lines
from diffprog.attribute._inside.patching_result import LineCredit, Patching

AROUND = 2  # lines shown above and below a line with credit
LEAST = 0.005  # of the largest credit: what is shown


def bars(
    attribution: Any,
    names: Sequence[str],
    *,
    example: int = 0,
    values: Sequence[Any] | None = None,
    most: int = 30,
    title: str = "",
) -> Drawn:
    """Draw the credit of an example's features as bars, the largest first.

    Args:
      attribution: an `Attribution` of one score whose values are (n, features); or such values.
      names: of the features.
      example: which of the examples.
      values: the example's own values, to be shown beside the names.
      most: how many features are shown; the credit of the rest is added up in a last row.
      title: a line above all.

    Returns:
      A `Drawn`.

    Raises:
      ValueError: credit and names do not fit.
    """
    credit = attribution.values if isinstance(attribution, Attribution) else attribution
    if isinstance(credit, Mapping) and len(credit) == 1:
        (credit,) = credit.values()
    if getattr(credit, "ndim", 0) != 2 or credit.shape[1] != len(names):
        found = getattr(credit, "shape", type(credit).__name__)
        raise ValueError(f"bars show credit (n, {len(names)}), a number for each name; found {found}")
    credit = np.asarray(credit, np.float64)[example]
    errors = None
    if isinstance(attribution, Attribution) and getattr(attribution.error, "shape", None) == attribution.values.shape:
        errors = np.asarray(attribution.error, np.float64)[example]
    scale = scale_of(credit, 100)
    order = np.argsort(-np.abs(credit), kind="stable")
    rows, body = [], ['<div class="scroll"><table>']
    for index in order[:most]:
        given = "" if values is None else f" = {_given(values[index])}"
        size = f"{credit[index]:+.4g}" + ("" if errors is None else f" ± {errors[index]:.1g}")
        rows.append((f"{names[index]}{given}", size, bar_text(credit[index], scale)))
        cells = f'<th>{escape(names[index] + given)}</th><td class="number">{size}</td>{bar_cell(credit[index], scale)}'
        body.append(f"<tr>{cells}</tr>")
    if len(order) > most:
        rest = float(credit[order[most:]].sum())
        name = f"{len(order) - most} others"
        rows.append((name, f"{rest:+.4g}", ""))
        body.append(f'<tr><th>{name}</th><td class="number">{rest:+.4g}</td><td></td></tr>')
    facts = facts_of(attribution)[example] if isinstance(attribution, Attribution) else ()
    title = title or (attribution.method if isinstance(attribution, Attribution) else "credit")
    text = "\n".join([title, *text_table(rows, "<><"), *facts])
    return Drawn(title, text, "".join([*body, "</table></div>", note_lines(facts)]))


def _given(value):
    return f"{float(value):.4g}" if isinstance(value, float | np.floating) else str(value)


def listing(result: Patching, *, title: str = "", around: int = AROUND) -> Drawn:
    """Draw the lines of a program with bars beside them: what each has to do with the difference of two runs.

    Args:
      result: of `attribute.patching`.
      title: a line above all.
      around: lines shown above and below a line with credit.

    Returns:
      A `Drawn`; its text is that of the result itself.
    """
    shown = [line for line in result.by_line if abs(line.credit) >= LEAST * abs(result.by_line[0].credit) > 0]
    scale = scale_of(np.array([line.credit for line in shown] or [0.0]), 100)
    by_file: dict[str, dict[int, LineCredit]] = {}
    for line in shown:
        by_file.setdefault(line.file, {})[line.line] = line
    body = []
    for file, credited in by_file.items():
        name = escape(Path(file).name) if file else "what belongs to no line"
        head = '<tr><th></th><th class="number">credit</th><th></th><th class="number">alone</th><th>line</th></tr>'
        table = head + _lines(file, credited, around, scale)
        body.append(f'<p>{name}</p><div class="scroll"><table class="code">{table}</table></div>')
    rest = result.difference - sum(line.credit for line in shown)
    notes = [
        f"clean {number(float(np.sum(result.score)))} - corrupt {number(float(np.sum(result.baseline_score)))} "
        f"= {number(result.difference)}",
        *result.ways,
    ]
    after = [
        f"all else: {rest:+.3g}",
        "alone: what the score really does if this line alone reads the clean run's inputs",
    ]
    title = title or f"{result.corrupt.function}: which lines explain the difference"
    return Drawn(title, str(result), note_lines(notes) + "".join(body) + note_lines(after))


def _lines(file, credited, around, scale):
    text = linecache.getlines(file) if file else []
    wanted = {n for line in credited for n in range(line - around, line + around + 1) if 1 <= n <= len(text)}
    indents = [len(text[n - 1]) - len(text[n - 1].lstrip()) for n in wanted if text[n - 1].strip()]
    indent = min(indents, default=0)
    rows, before = [], None
    for index in sorted(wanted) or sorted(credited):
        if before is not None and index > before + 1:
            rows.append('<tr><td></td><td></td><td></td><td></td><td class="quiet">\N{VERTICAL ELLIPSIS}</td></tr>')
        before = index
        source = escape(text[index - 1].rstrip("\n")[indent:]) if index <= len(text) else ""
        line = credited.get(index)
        if line is None:
            empty = "<td></td>" * 3
            rows.append(f'<tr><td class="line number">{index}</td>{empty}<td class="quiet">{source}</td></tr>')
            continue
        alone = "" if line.alone is None else f"{line.alone:+.4g}"
        rows.append(
            f'<tr><td class="line number">{index}</td><td class="number">{line.credit:+.4g}</td>'
            f'{bar_cell(line.credit, scale)}<td class="number">{alone}</td><td>{source}</td></tr>'
        )
    return "".join(rows)
