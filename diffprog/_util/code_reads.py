"""What the code of a function reads from outside: globals, variables of enclosing functions, modules.

A log or a counter of calls is written, but not read: `calls.append(n)`, `counts["n"] += 1`, `self.calls += 1`. What
such a name holds changes with every call and decides nothing, so it is told apart from what the code reads. A name
that the code sets itself, as one that holds a program which is compiled in the first call, is not counted either.
"""

import dis
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import CodeType
from typing import NamedTuple

NAMES = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")
ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
WRITES = (
    "append",
    "appendleft",
    "extend",
    "add",
    "insert",
    "put",
    "write",
    "writelines",
)  # none of them tells anything


class CodeReads(NamedTuple):
    """What a piece of code reads, nested functions included.

    Attributes:
        names: Names that it reads and does not set, each with the attributes that are read from it at once: ("np",
            "random", "normal").
        imports: Modules that it imports when it runs.
        logged: Attributes, of whatever object, that it only writes: counters and logs.
        attributes: Attributes, of whatever object, that it reads.
        assigned: Attributes, of whatever object, that it sets.
    """

    names: tuple[tuple[str, ...], ...]
    imports: tuple[str, ...]
    logged: frozenset[str]
    attributes: frozenset[str]
    assigned: frozenset[str]


@lru_cache(maxsize=4096)
def code_reads(code: CodeType) -> CodeReads:
    """List what a piece of code reads."""
    names: set[tuple[str, ...]] = set()
    imports: set[str] = set()
    logged: set[str] = set()
    attributes: set[str] = set()
    assigned: set[str] = set()
    state: set[str] = set()
    for part in _with_nested(code):
        instructions = [instruction for instruction in dis.get_instructions(part) if instruction.opname != "NOP"]
        for index, instruction in enumerate(instructions):
            rest = instructions[index + 1 : index + 5]
            if instruction.opname in NAMES:
                is_local = "DEREF" in instruction.opname and instruction.argval not in code.co_freevars
                if not (is_local or _is_written(rest)):
                    names.add((instruction.argval, *_chain(instructions[index + 1 :])))
            elif instruction.opname == "STORE_GLOBAL" or (
                instruction.opname == "STORE_DEREF" and instruction.argval in code.co_freevars
            ):
                state.add(instruction.argval)
            elif instruction.opname == "STORE_ATTR":
                assigned.add(instruction.argval)
            elif instruction.opname == "IMPORT_NAME":
                imports.add(instruction.argval)
            elif instruction.opname in ATTRIBUTES:
                before = instructions[index - 1]
                counted = before.opname == "COPY" and before.arg == 1  # self.calls += 1 keeps `self` for the store
                (logged if counted or _is_written(rest) else attributes).add(instruction.argval)
    read = sorted(path for path in names if path[0] not in state)
    return CodeReads(tuple(read), tuple(sorted(imports)), *map(frozenset, (logged, attributes, assigned)))


def _with_nested(code: CodeType) -> Iterator[CodeType]:
    """Yield a piece of code and those of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_nested(constant)


def _is_written(rest: Sequence[dis.Instruction]) -> bool:
    """Tell, from the instructions behind the load of x, whether it is written: x.append(..), x[i] = .., x[i] += .."""
    operations = [(instruction.opname, instruction.arg) for instruction in rest]
    if not operations:
        return False
    if operations[0][0] in ATTRIBUTES:
        return rest[0].argval in WRITES
    indexed = operations[0][0].startswith("LOAD_") and len(operations) > 1
    return indexed and (operations[1][0] == "STORE_SUBSCR" or operations[1:3] == [("COPY", 2), ("COPY", 2)])


def _chain(rest: Sequence[dis.Instruction]) -> tuple[str, ...]:
    """Follow the attributes that are read at once."""
    names: list[str] = []
    for instruction in rest:
        if instruction.opname not in ATTRIBUTES:
            break
        names.append(instruction.argval)
    return tuple(names)
