"""What a compiled program holds over time: its buffers, and the source line of each.

The compiler's own buffer assignment says how large each buffer is and where it lies in the temporary memory; while it
is in use follows from the schedule.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax._src import config

from diffprog._jax_internals.buffer_lifetimes import Lifetimes
from diffprog._jax_internals.hlo_modules import Allocation, Instruction, Module, allocations, module_of
from diffprog._jax_internals.sources import RawFrame, in_function

__all__ = [
    "Held",
    "HeldByLine",
    "MemoryOverTime",
    "Visible",
    "compile_with_lines",
    "lines_at_peak",
    "memory_over_time",
    "occupancy",
    "visible",
]

FORWARD, BACKWARD, RECOMPUTED = PHASES = ("forward", "backward", "recomputed")

_STARTS = ("broadcast", "copy", "constant", "parameter", "while", "conditional", "call")  # say less than what follows
_OF_ANY_SCAN = ("jit(dynamic_index_in_dim)", "jit(dynamic_update_index_in_dim)")  # JAX has one of each for all scans
_FURTHEST = 4  # neighbors of neighbors that are asked for a source line

Source = tuple[tuple[RawFrame, ...], str, str]  # lines, operation, phase


class Held(NamedTuple):
    """A buffer of the temporary memory.

    Attributes:
      bytes: its size.
      offset: where it starts in the temporary memory.
      start: first instruction during which it is in use.
      stop: the one after the last.
      frames: the line that it was computed for and those around it; empty if the compiler does not say.
      operation: scopes and JAX primitive that made it, as "jit(f)/transpose(jvp())/mul"; may be empty.
      phase: "forward", "backward", or "recomputed" for what the backward pass computes again.
    """

    bytes: int
    offset: int
    start: int
    stop: int
    frames: tuple[RawFrame, ...]
    operation: str
    phase: str

    @property
    def frame(self) -> RawFrame | None:
        """The line."""
        return self.frames[0] if self.frames else None


class MemoryOverTime(NamedTuple):
    """The temporary memory of a compiled program.

    Attributes:
      bytes: its size by the compiler, with gaps.
      constants: bytes of constants, which the program brings along.
      held: what is in the temporary memory.
      phases: of each instruction, in order; also of those in calls, loops and branches, each once.
    """

    bytes: int
    constants: int
    held: tuple[Held, ...]
    phases: tuple[str, ...]


class Visible(NamedTuple):
    """What a buffer occupies for some time.

    Attributes:
      held: number of the buffer.
      start: first instruction of that time.
      stop: the one after the last.
      bytes: what is in its place alone: of buffers in the same place, the last that was written.
    """

    held: int
    start: int
    stop: int
    bytes: int


class HeldByLine(NamedTuple):
    """What a source line holds.

    Attributes:
      bytes: in total.
      frame: the line; None for buffers whose line the compiler does not say.
    """

    bytes: int
    frame: RawFrame | None

    @property
    def where(self) -> str:
        """The line in words, as "model.py:41 (attention)"."""
        if self.frame is None:
            return "an unknown line"
        return f"{Path(self.frame.file).name}:{self.frame.line}{in_function(self.frame.function)}"


def compile_with_lines(lowered):
    """Compile a lowered program; from JAX's cache on disk only one that is equal in its lines, too, is taken."""
    with config.compilation_cache_include_metadata_in_key(True):
        return lowered.compile()


def lines_at_peak(compiled) -> list[HeldByLine]:
    """Find the source lines that hold most at the moment at which a compiled program holds most, the largest first.

    The list is empty where the backend does not say.
    """
    memory = memory_over_time(compiled)
    if memory is None or not memory.held:
        return []
    _, at_peak = max(occupancy(memory.held), key=lambda moment: moment[1].sum())
    totals: dict[RawFrame | None, int] = {}
    for held, num_bytes in zip(memory.held, at_peak.tolist(), strict=True):
        if num_bytes:
            totals[held.frame] = totals.get(held.frame, 0) + num_bytes
    return sorted((HeldByLine(n, frame) for frame, n in totals.items()), key=lambda line: -line.bytes)


def memory_over_time(compiled) -> MemoryOverTime | None:
    """Read what a compiled program (`jax.stages.Compiled`) holds over time; None where the backend does not say."""
    assignment = getattr(compiled.memory_analysis(), "serialized_buffer_assignment_proto", None)
    if not assignment or (module := module_of(compiled)) is None:
        return None
    placed = allocations(assignment)
    temporary = [allocation for allocation in placed if allocation.is_temporary]
    lifetimes = Lifetimes(module, (buffer for allocation in placed for buffer in allocation.buffers))
    sources, writers = _Sources(module), _writers(module, placed, lifetimes)
    held, start = [], 0
    for allocation in temporary:
        for buffer in allocation.buffers:
            if buffer.id in lifetimes.start:  # else in a computation that never runs
                maker = sources.maker(writers[buffer.group])
                held.append(
                    Held(
                        buffer.bytes,
                        start + buffer.offset,
                        lifetimes.start[buffer.id],
                        lifetimes.stop[buffer.id],
                        *sources.of(maker),
                    )
                )
        start += allocation.bytes
    phases = [sources.of(instruction)[2] for instruction in lifetimes.order]
    constants = sum(allocation.bytes for allocation in placed if allocation.is_constant)
    return MemoryOverTime(start, constants, tuple(held), tuple(phases))


def _writers(module: Module, placed: Sequence[Allocation], lifetimes: Lifetimes) -> dict[int, list[Instruction]]:
    """List the instructions that write to each group of buffers, in the order in which they run."""
    buffers = [b for allocation in placed for b in allocation.buffers if b.id in lifetimes.start]
    writers: dict[int, list[Instruction]] = {}
    for buffer in sorted(buffers, key=lambda b: lifetimes.start[b.id]):
        writers.setdefault(buffer.group, []).append(module.instructions[buffer.instruction])
    return writers


def occupancy(held: Sequence[Held]) -> Iterator[tuple[int, np.ndarray]]:
    """Go through time and count what each buffer occupies.

    Where buffers are in the same place, as one that is changed in place is with what comes of it, the later counts.

    Yields:
      Whenever something changes, the instruction, and the bytes that each of `held` occupies from then on.
    """
    edges = np.unique([edge for h in held for edge in (h.offset, h.offset + h.bytes)])
    widths = np.diff(edges)
    cells = [slice(*np.searchsorted(edges, [h.offset, h.offset + h.bytes])) for h in held]
    shown, users = np.full(len(widths), -1), np.zeros(len(widths), int)
    in_use: dict[int, None] = {}  # in the order of their starts
    begins, ends = _by_time(h.start for h in held), _by_time(h.stop for h in held)
    for time in sorted({*begins, *ends}):
        for i in ends.get(time, []):
            del in_use[i]
            users[cells[i]] -= 1
            shown[cells[i]][shown[cells[i]] == i] = -1
        for i in begins.get(time, []):
            in_use[i] = None
            users[cells[i]] += 1
            shown[cells[i]] = i
        if np.any((shown == -1) & (users > 0)):  # what ended lay over something
            for i in reversed(in_use):
                shown[cells[i]][shown[cells[i]] == -1] = i
        yield time, np.bincount(shown + 1, widths, len(held) + 1)[1:].astype(np.int64)


def visible(held: Sequence[Held]) -> list[Visible]:
    """List what each buffer occupies, from when to when: at any time these add up to what is occupied."""
    found, now, since = [], np.zeros(len(held), np.int64), np.zeros(len(held), int)
    for time, occupied in occupancy(held):
        (changed,) = np.nonzero(occupied != now)
        found += [Visible(i, since[i].item(), time, now[i].item()) for i in changed.tolist() if now[i]]
        now, since[changed] = occupied, time
    return found


def _by_time(times: Iterable[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for i, time in enumerate(times):
        found.setdefault(time, []).append(i)
    return found


class _Sources:
    """What the compiler says of where instructions come from, asked of their neighbors where it says nothing."""

    def __init__(self, module: Module):
        self._module = module
        self._known: dict[int, Source] = {}

    def of(self, instruction: Instruction) -> Source:
        """Find the line and the operation that an instruction comes from, and its phase."""
        if instruction.id not in self._known:
            self._known[instruction.id] = self._find(instruction)
        return self._known[instruction.id]

    def _find(self, instruction: Instruction) -> Source:
        operation = next((i.op_name for i in self._near(instruction) if "/" in i.op_name), "")
        if self._copies_argument(instruction):
            return (), "copy of an argument", _phase(operation)
        inserted = self._inserted(instruction)
        asked = lambda: chain(self._near(inserted) if inserted else (), self._near(instruction))
        lines = filter(None, (self._frames(i, at_calls) for at_calls in (False, True) for i in asked()))
        return next(lines, ()), operation, _phase(operation)

    def _near(self, instruction: Instruction) -> Iterator[Instruction]:
        """List an instruction and those fused into it, its operands and theirs, who takes it, and who runs all this."""
        by_id = self._module.instructions
        yield from self._around(instruction, lambda i: [by_id[operand] for operand in i.operands])
        yield from self._around(instruction, lambda i: self._module.users.get(i.id, []))
        runs = self._module.run_by.get(instruction.computation)
        while runs is not None:
            yield runs
            runs = self._module.run_by.get(runs.computation)

    def _around(self, instruction: Instruction, neighbors: Callable) -> Iterator[Instruction]:
        """List an instruction, its neighbors and theirs, the nearest first, each with those fused into it."""
        seen: set[int] = set()
        layer = [instruction]
        for _ in range(_FURTHEST):
            for i in layer:
                yield i
                yield from reversed(self._fused(i))
            seen.update(i.id for i in layer)
            layer = list({n.id: n for i in layer for n in neighbors(i) if n.id not in seen}.values())

    def _copies_argument(self, instruction: Instruction) -> bool:
        if instruction.opcode != "copy":
            return False
        copied = self._module.instructions[instruction.operands[0]]
        return copied.opcode == "parameter" and copied.computation == self._module.entry

    def _frames(self, instruction: Instruction, at_calls: bool) -> tuple[RawFrame, ...]:
        """Get the lines of an instruction, but not of what scans make, and only `at_calls` of copies around calls."""
        scopes = instruction.op_name.split("/")
        is_call = scopes[-1] in ("call_apart", "closed_call") or scopes[-1].startswith("jit(")
        if is_call > at_calls or any(name in _OF_ANY_SCAN for name in scopes):
            return ()
        return self._module.user_frames(instruction)

    def _fused(self, instruction: Instruction) -> Sequence[Instruction]:
        if instruction.opcode != "fusion":
            return ()
        return self._module.computations[instruction.calls[0]].instructions

    def maker(self, candidates: Sequence[Instruction]) -> Instruction:
        """Of the instructions that write to one place, in order, choose the one that says most about what is there.

        Of the state of a loop this is not that which makes its start, but that which computes it, step by step.
        """
        return max(reversed(candidates), key=lambda i: (self._inserted(i) is not None, self._opcode(i) not in _STARTS))

    def _opcode(self, instruction: Instruction) -> str:
        """Find the opcode of an instruction, of a fusion that of its result."""
        return self._result(instruction).opcode

    def _result(self, instruction: Instruction) -> Instruction:
        if instruction.opcode == "fusion":
            instruction = self._module.instructions[self._module.computations[instruction.calls[0]].root]
        while instruction.opcode == "bitcast":
            instruction = self._module.instructions[instruction.operands[0]]
        return instruction

    def _inserted(self, instruction: Instruction) -> Instruction | None:
        """Find the instruction whose result is put into an array, as each step of a scan puts its results."""
        result = self._result(instruction)
        if result.opcode != "dynamic-update-slice":
            return None
        piece = self._module.instructions[result.operands[1]]
        while piece.opcode in ("bitcast", "reshape", "broadcast", "copy", "convert") and piece.operands:
            piece = self._module.instructions[piece.operands[0]]
        if piece.opcode == "parameter" and instruction.opcode == "fusion":
            piece = self._module.instructions[instruction.operands[piece.parameter]]
        return piece


def _phase(operation: str) -> str:
    """Say to which pass an operation belongs, by its scopes: JAX's, and ours, which are named as JAX's."""
    if "rematted_computation" in operation:
        return RECOMPUTED
    return BACKWARD if any("transpose(" in scope and scope[:4] != "jit(" for scope in operation.split("/")) else FORWARD
