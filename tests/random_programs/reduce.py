"""Make a failing program shorter."""

import re
from dataclasses import replace

from tests.random_programs.writing import tuple_of


def failure(program) -> str | None:
    """How a program fails, without the numbers."""
    try:
        program.check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:25]
    return None


def reduced(program):
    """A program whose every statement is needed for its failure.

    From the last line to the first (uses before what they use) each line is left out, together with the lines that are
    indented under it, or else given a constant to assign, as long as the program fails in the same way; until nothing
    changes.
    """
    expected, lines = failure(program), program.source.splitlines()
    before = None
    while expected and lines != before:
        before = lines
        for place in range(len(lines) - 1, 0, -1):
            for shorter in _shorter(lines, place, program.types):
                if failure(replace(program, source="\n".join(shorter))) == expected:
                    lines = shorter
                    break
    return replace(program, source="\n".join(lines))


def _shorter(lines, place, types):
    """Sources with less in this line."""
    if place >= len(lines):
        return
    line = lines[place]
    indent = len(line) - len(line.lstrip())
    end = place + 1
    while end < len(lines) and lines[end].startswith(" " * (indent + 1)):
        end += 1
    yield lines[:place] + lines[end:]
    if found := re.match(r" +return \((.*, .*)\)$", line):
        for result in found[1].split(", "):
            yield [*lines[:place], f"{' ' * indent}return ({result},)", *lines[end:]]
    if found := re.match(r" +(\(?v[v\d, ]*\)?) = (?!np\.full)", line):
        constants = [f"np.full({types[v].shape}, 0.3, '{types[v].dtype}')" for v in re.findall(r"v\d+", found[1])]
        value = constants[0] if "," not in found[1] else tuple_of(constants)
        yield [*lines[:place], f"{' ' * indent}{found[1]} = {value}", *lines[end:]]
