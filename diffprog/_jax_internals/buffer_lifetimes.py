"""When each buffer of a compiled program is in use: from the instruction that writes it to the last that reads it.

The instructions of calls, loops and branches stand in one line with the others, once. A result that is a tuple is a
tree of buffers; instructions as "get-tuple-element" do nothing but pass them on, and take no time.
"""

from collections.abc import Iterable, Sequence

from diffprog._jax_internals.hlo_modules import Buffer, Instruction, Module

__all__ = ["Lifetimes"]

_RUNS = ("call", "while", "conditional")  # computations whose buffers are in the same allocations
_SAME = ("bitcast", "optimization-barrier", "add-dependency", "domain")  # as their first operand
_READS_NOTHING = (*_RUNS, *_SAME, "get-tuple-element", "tuple", "parameter", "constant", "after-all")

Value = dict[tuple[int, ...], frozenset[int]]  # ids of the buffers that each part of a result may be in


class Lifetimes:
    """The instructions of a program in one line, and when each buffer is in use.

    Attributes:
      order: the instructions that do something.
      start: by a buffer's id, the first instruction during which it is in use.
      stop: the one after the last.
    """

    def __init__(self, module: Module, buffers: Iterable[Buffer]):
        self._module = module
        self._written: dict[int, list[Buffer]] = {}
        for buffer in buffers:
            self._written.setdefault(buffer.instruction, []).append(buffer)
        self._values: dict[int, Value] = {}
        self.order: list[Instruction] = []
        self.start: dict[int, int] = {}
        self.stop: dict[int, int] = {}
        self._run(module.entry, [{}] * len(module.computations[module.entry].parameters()))

    def _run(self, computation: int, arguments: Sequence[Value]) -> Value:
        """Go through a computation; return its result."""
        instructions, root = self._module.computations[computation]
        begin = len(self.order)
        for instruction in instructions:
            if instruction.opcode == "parameter":
                self._write(instruction, arguments[instruction.parameter], begin)
                continue
            passed_on = self._passed_on(instruction)
            self._write(instruction, passed_on, len(self.order))
            if instruction.opcode not in _READS_NOTHING:
                for operand in instruction.operands:
                    self._read(self._values[operand], len(self.order))
                self.order.append(instruction)
        self._read(self._values[root], len(self.order))  # by whoever runs the computation
        return self._values[root]

    def _write(self, instruction: Instruction, passed_on: Value, time: int) -> None:
        """Let an instruction's result be the buffers that it writes, and for the rest what it passes on."""
        value = dict(passed_on)
        for buffer in self._written.get(instruction.id, []):
            value[buffer.path] = frozenset([buffer.id])
            self.start[buffer.id] = time
            self.stop[buffer.id] = time + 1
        self._values[instruction.id] = value

    def _read(self, value: Value, time: int) -> None:
        for buffer in frozenset().union(*value.values()):
            self.stop[buffer] = max(self.stop[buffer], time + 1)

    def _passed_on(self, instruction: Instruction) -> Value:
        """Find the buffers that an instruction does not write, yet has as its result; run the computations it runs."""
        operands = [self._values[i] for i in instruction.operands]
        match instruction.opcode:
            case "tuple":
                return {(i, *path): buffers for i, value in enumerate(operands) for path, buffers in value.items()}
            case "get-tuple-element":
                index = instruction.tuple_index
                return {path[1:]: buffers for path, buffers in operands[0].items() if path[:1] == (index,)}
            case "call":
                return self._run(instruction.calls[0], operands)
            case "while":
                return self._loop(instruction, operands[0])
            case "conditional":
                pairs = zip(instruction.calls, operands[1:], strict=True)
                return _either([self._run(branch, [operand]) for branch, operand in pairs])
            case opcode:
                return operands[0] if opcode in _SAME else {}

    def _loop(self, instruction: Instruction, state: Value) -> Value:
        body, condition = instruction.calls
        self._read(state, len(self.order))
        result = self._run(body, [state])
        self._run(condition, [result])
        for parameter in self._module.computations[condition].parameters():
            self._read(self._values[parameter.id], len(self.order))  # the whole state lasts while it is decided
        return result


def _either(values: Sequence[Value]) -> Value:
    return {
        path: frozenset().union(*(value.get(path, frozenset()) for value in values))
        for path in dict.fromkeys(path for value in values for path in value)
    }
