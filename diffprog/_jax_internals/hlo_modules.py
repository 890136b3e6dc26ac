"""A compiled program as XLA scheduled it: its instructions in order, where each comes from, and where buffers lie.

XLA hands over both as messages of protocol buffers (xla/service/hlo.proto), whose numbers of fields never change.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from diffprog._jax_internals.sources import RawFrame, is_hidden, is_installed
from diffprog._util.protobuf import Message

__all__ = ["Allocation", "Buffer", "Instruction", "Module", "allocations", "module_of"]


class Instruction(NamedTuple):
    """An instruction of a computation.

    Attributes:
      id: unique in the module.
      computation: id of the computation that it is part of.
      opcode: as "dot", "fusion", "while".
      operands: ids of the instructions whose results it takes.
      calls: ids of the computations that it runs.
      tuple_index: of a "get-tuple-element".
      parameter: number of a "parameter".
      op_name: scopes and JAX primitive that it comes from, as "jit(f)/transpose(jvp())/mul"; may be empty.
      frame: id of its stack frame; 0 for none.
    """

    id: int
    computation: int
    opcode: str
    operands: tuple[int, ...]
    calls: tuple[int, ...]
    tuple_index: int
    parameter: int
    op_name: str
    frame: int


class Computation(NamedTuple):
    """A list of instructions, in the order in which they run, if that is known.

    Attributes:
      instructions: all of them.
      root: id of the one whose result is the computation's.
    """

    instructions: tuple[Instruction, ...]
    root: int

    def parameters(self) -> list[Instruction]:
        """List the parameters, by their number."""
        return sorted((i for i in self.instructions if i.opcode == "parameter"), key=lambda i: i.parameter)


class Module:
    """A compiled program.

    Attributes:
      computations: by their ids.
      entry: id of the one that is the program.
      instructions: of all computations, by their ids.
      run_by: the instruction that runs a computation, by the computation's id.
    """

    def __init__(self, serialized: bytes):
        self._message = Message(serialized)
        order = {
            entry.number(1): {id: at_step for at_step, id in enumerate(entry.message(2).numbers(1))}
            for entry in self._message.message(7).messages(1)
        }
        self.computations: dict[int, Computation] = {}
        for message in self._message.messages(3):
            id = message.number(5)
            self.computations[id] = _computation(message, order.get(id, {}))
        self.entry = self._message.number(6)
        self.instructions = {i.id: i for c in self.computations.values() for i in c.instructions}
        self.run_by = {computation: i for i in self.instructions.values() for computation in i.calls}

    @cached_property
    def users(self) -> dict[int, list[Instruction]]:
        """The instructions that take the result of one, by its id."""
        users: dict[int, list[Instruction]] = {}
        for instruction in self.instructions.values():
            for operand in instruction.operands:
                users.setdefault(operand, []).append(instruction)
        return users

    def user_frames(self, instruction: Instruction) -> tuple[RawFrame, ...]:
        """Find the user's lines that an instruction comes from, innermost first; a library's if there are no others."""
        shown = [frame for frame in self._stack(instruction.frame) if not frame.hidden]
        own_code = [frame for frame in shown if not is_installed(frame.file)]
        return tuple(own_code or shown)

    def _stack(self, frame: int) -> Iterator[RawFrame]:
        while frame:
            raw, frame = self._frames[frame - 1]
            yield raw

    @cached_property
    def _frames(self) -> list[tuple[RawFrame, int]]:
        """The stack frames, each with the id of the one around it. Ids are positions from 1 on; 0 is none."""
        tables = self._message.message(17)
        files, functions = tables.texts(1), tables.texts(2)
        places = [
            (files[place.number(1) - 1], place.number(3), functions[place.number(2) - 1])
            for place in tables.messages(3)
        ]
        frames = []
        for message in tables.messages(4):
            file, line, function = places[message.number(1) - 1]
            frames.append((RawFrame(file, line, function, is_hidden(file)), message.number(2)))
        return frames


def _computation(message: Message, steps: dict[int, int]) -> Computation:
    """Read a computation whose instructions, by their ids, run at these steps."""
    instructions = [_instruction(inner, message.number(5)) for inner in message.messages(2)]
    return Computation(tuple(sorted(instructions, key=lambda i: steps.get(i.id, 0))), message.number(6))


def _instruction(message: Message, computation: int) -> Instruction:
    metadata = message.message(7)
    return Instruction(
        message.number(35),
        computation,
        message.text(2),
        tuple(message.numbers(36)),
        tuple(message.numbers(38)),
        message.number(13),
        message.number(9),
        metadata.text(2),
        metadata.number(15),
    )


def module_of(compiled) -> Module | None:
    """Read the module of a compiled program (`jax.stages.Compiled`); None where the backend does not hand it over."""
    try:
        modules = compiled.runtime_executable().hlo_modules()
    except (AttributeError, NotImplementedError, RuntimeError):  # XLA's errors are RuntimeErrors
        return None
    return Module(modules[0].as_serialized_hlo_module_proto()) if modules else None


class Buffer(NamedTuple):
    """A piece of memory that an instruction writes.

    Attributes:
      id: unique in the module.
      bytes: its size.
      instruction: id of the one that writes it; a loop's parameters and results are buffers of their own.
      path: which part of the instruction's result it is, if that is a tuple: indices from outside to inside.
      offset: where it starts in its allocation.
      group: number of the buffers that must be in the same place, as the states of a loop before and after a step.
    """

    id: int
    bytes: int
    instruction: int
    path: tuple[int, ...]
    offset: int
    group: int


class Allocation(NamedTuple):
    """Memory that a compiled program is given when it starts.

    Attributes:
      bytes: its size.
      is_temporary: whether it holds neither arguments, results nor constants.
      is_constant: whether it holds a constant.
      buffers: what lies in it, at one time or another.
    """

    bytes: int
    is_temporary: bool
    is_constant: bool
    buffers: tuple[Buffer, ...]


def allocations(serialized: bytes) -> list[Allocation]:
    """Read where the compiler put each buffer (a BufferAssignmentProto)."""
    message = Message(serialized)
    places = {}
    for buffer in message.messages(1):
        place = buffer.message(3)
        places[buffer.number(1)] = place.number(4), tuple(place.numbers(3))
    group = _groups(message, places)
    read = []
    for allocation in message.messages(3):
        kinds = (3, 5, 7, 12)  # of a thread, a parameter, maybe a result, a constant
        buffers = []
        for assigned in allocation.messages(9):
            id = assigned.number(1)
            buffers.append(Buffer(id, assigned.number(3), *places[id], assigned.number(2), group[id]))
        read.append(
            Allocation(
                allocation.number(2),
                not any(map(allocation.number, kinds)),
                bool(allocation.number(12)),
                tuple(buffers),
            ),
        )
    return read


def _groups(message: Message, places: dict[int, tuple]) -> dict[int, int]:
    """Find for each buffer the least id of those that must be in the same place."""
    by_place = {place: id for id, place in places.items()}
    group = {id: id for id in places}
    for alias in message.messages(2):  # of each buffer all others of its group
        source, place = alias.number(1), alias.message(2)
        group[source] = min(group[source], by_place.get((place.number(4), tuple(place.numbers(3))), source))
    return group
