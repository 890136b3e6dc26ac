"""A program with bars beside its lines, for a terminal."""

import linecache
import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffprog.attribute._inside.patching_result import LineCredit, Patching

HALF = 8  # characters of a bar on either side
AROUND = 1  # lines shown above and below a line with credit
LEAST = 0.005  # of the largest credit: what is shown
WIDTH = 100


def listing(result: "Patching") -> str:
    """Write what explains the difference of two runs: the program's lines with their credit."""
    score, start = result.difference + _total(result.baseline_score), _total(result.baseline_score)
    lines = [f"{result.corrupt.function}: {score:.6g} (clean) - {start:.6g} (corrupt) = {result.difference:.6g}"]
    if result.by_line and result.difference:
        first = result.by_line[0]
        where = f"{Path(first.file).name}:{first.line}" if first.file else "what is returned as it is given"
        lines.append(f"{where} explains {first.credit:.4g} ({first.credit / result.difference:.0%}): {first.text}")
    lines += result.ways
    shown = [line for line in result.by_line if abs(line.credit) >= LEAST * abs(result.by_line[0].credit) > 0]
    by_file: dict[str, list[LineCredit]] = defaultdict(list)
    for line in shown:
        by_file[line.file].append(line)
    largest = max((abs(line.credit) for line in shown), default=1.0)
    for file, credited in by_file.items():
        lines += ["", f"{_short(file)}" if file else "(no line)", f"{'credit':>10} {'alone':>10} {'restored':>10}"]
        lines += _program(file, {line.line: line for line in credited}, largest)
    small = sum(line.credit for line in result.by_line if line not in shown)
    others = len(result.by_line) - len(shown)
    lines += ["", f"{others} other lines: {small:+.4g}"] if others else [""]
    if result.gap is not None:
        lines.append(
            f"inputs' differences times their slopes miss {_total(result.gap):.4g}: curvature, and what has no slope"
        )
    return "\n".join(lines)


def _program(file: str, credited: dict[int, "LineCredit"], largest: float):
    if not file:
        yield from (_row(line, "", largest) for line in credited.values())
        return
    text = linecache.getlines(file)
    numbers = sorted({n for line in credited for n in range(line - AROUND, line + AROUND + 1) if 1 <= n <= len(text)})
    digits = len(str(max(numbers, default=1)))
    indents = [len(text[n - 1]) - len(text[n - 1].lstrip()) for n in numbers if text[n - 1].strip()]
    indent = min(indents, default=0)
    before = None
    for number in numbers or sorted(credited):
        if before is not None and number > before + 1:
            yield f"{'':53}{'⋮':>{digits}}"
        before = number
        source = text[number - 1].rstrip()[indent:] if number <= len(text) else ""
        yield _row(credited.get(number), f"{number:>{digits}}  {source}", largest)


def _row(line: "LineCredit | None", source: str, largest: float) -> str:
    if line is None:
        return f"{'':34}{_bar(0.0)}  {source}"[:WIDTH].rstrip()
    numbers = "".join(f" {'' if x is None else f'{x:+.4g}':>10}" for x in (line.credit, line.alone, line.restored))
    return f"{numbers[1:]}  {_bar(line.credit / largest)}  {source}"[:WIDTH].rstrip()


def _bar(part: float) -> str:
    filled = "█" * max(round(abs(part) * HALF), 1 if part else 0)
    return f"{filled if part < 0 else '':>{HALF}}│{filled if part > 0 else '':<{HALF}}"


def _total(score) -> float:
    return float(score.sum())


def _short(file: str) -> str:
    relative = os.path.relpath(file)
    return relative if not relative.startswith("..") else file
