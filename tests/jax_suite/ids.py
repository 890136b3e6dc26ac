"""Lists of tests: `tests.txt`, those of JAX's that call reverse mode, and `excused.txt`, those that need not pass.

In `tests.txt` a line is a file, a class (indented by one) or a method (by two). JAX numbers the cases of a method that
it generates: the numbers, as "0 2-5", follow its name after a tab. A line break within a name is written "\\n".
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).parent
_NUMBERED = re.compile(r"(.*?)(0|[1-9]\d*)")


def listed() -> list[str]:
    """Get the ids of JAX's tests that call reverse mode and pass with JAX: "file.py::Class::method"."""
    return list(read((HERE / "tests.txt").read_text()))


def excused() -> dict[str, str]:
    """Get why a test need not pass, by its id."""
    reasons, kind = {}, ""
    for line in (HERE / "excused.txt").read_text().splitlines():
        if line.startswith("# "):
            kind = line.removeprefix("# ")
        elif line:
            name, _, reason = line.partition(": ")
            reasons[name] = f"{kind}: {reason}"
    return reasons


def read(text: str) -> Iterator[str]:
    """Read ids as `write` wrote them."""
    path = ["", ""]
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        if depth < 2:
            path[depth] = line.strip()
            continue
        name, _, numbers = line.strip().partition("\t")
        for number in numbers.split() or [""]:
            first, _, last = number.partition("-")
            for i in range(int(first), int(last or first) + 1) if number else [""]:
                yield f"{path[0]}::{path[1]}::{name}{i}".replace(r"\n", "\n")


def write(ids: Iterable[str]) -> str:
    """Write ids in few lines."""
    lines = []
    parts = sorted((*name.split("::")[:2], *_split(name.split("::")[2])) for name in ids)
    for file, of_file in groupby(parts, lambda p: p[0]):
        lines.append(file)
        for group, of_class in groupby(of_file, lambda p: p[1]):
            lines.append(f" {group}")
            for (method, numbered), cases in groupby(of_class, lambda p: (p[2], p[3] >= 0)):
                lines.append(
                    "  "
                    + method.replace("\n", r"\n")
                    + ("\t" + " ".join(_ranges([p[3] for p in cases])) if numbered else "")
                )
    return "\n".join(lines) + "\n"


def _split(method: str) -> tuple[str, int]:
    match = _NUMBERED.fullmatch(method)
    return (match[1], int(match[2])) if match else (method, -1)


def _ranges(numbers: list[int]) -> Iterator[str]:
    runs = groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    for run in ([number for _, number in pairs] for _, pairs in runs):
        yield f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0])
