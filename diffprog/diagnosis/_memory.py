"""`dp.memory`: what a compiled program holds over time, by the source line that it is held for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffprog._jax_internals.compiled_memory import (
    PHASES,
    MemoryOverTime,
    compile_with_lines,
    memory_over_time,
    visible,
)
from diffprog._jax_internals.sources import RawFrame, in_function
from diffprog._rules.budget.search import in_words
from diffprog._transforms.arguments import check_callable
from diffprog._transforms.memory import budget_of
from diffprog._transforms.reverse import value_and_grad
from diffprog._util.tables import text_table
from diffprog.diagnosis._memory_page import html
from diffprog.diagnosis._memory_picture import beside, line_of, share, svg
from diffprog.graph import Frame, Source
from diffprog.graph._recording.record import function_of_arrays, is_array

_FAR = 0.1  # share of the compiler's figure that may be missing without a word
_BARS = " ▁▂▃▄▅▆▇█"
_SPARKS = 64  # columns of the curve in a text


@dataclass(frozen=True)
class MemoryRow:
    """What is held at the peak for one line of the program.

    Attributes:
      bytes: in total.
      source: the user's line; None where the compiler does not say.
      phase: "forward" for what the forward pass made, or a program without gradients; "backward" for what the backward
        pass made; "recomputed" for what it computed again.
      operation: scopes and JAX primitive of the largest part, as "transpose(jvp(attention))/mul"; may be empty.
    """

    bytes: int
    source: Source | None
    phase: str
    operation: str

    @property
    def where(self) -> str:
        """The line and its function, "model.py:41 (attention)"; else the operation."""
        if self.source is None:
            return f"no line ({self.operation.rsplit('/', 1)[-1] or 'unknown'})"
        return f"{self.source}{in_function(self.source.function)}"


@dataclass(frozen=True)
class MemorySpan(MemoryRow):
    """Bytes that are held for one line for some time; at any time those of all spans add up to what is held.

    Attributes:
      start: the first instruction of the program at which they are held.
      stop: the one after the last.
    """

    start: int
    stop: int


@dataclass(frozen=True)
class MemoryReport:
    """What a compiled program holds; printed, it is a table of the lines that hold most at the peak.

    Attributes:
      program: what was compiled, in words.
      temporary: bytes that it is given for what is neither argument nor result, by the compiler's own figure.
      arguments: bytes of its arguments.
      results: bytes of its results.
      donated: bytes of results that are put into arguments.
      constants: bytes of constants that are part of it.
      rows: what is held at the peak, the largest first.
      spans: what is held over time, over `len(running)` instructions.
      running: the phase of each instruction, in the order in which they run. Those in calls, loops and branches are
        among them, once.
      budget: bytes allowed by `memory=`, if that was given.
      plain: the report of the same program without `memory=`, if that was given.
      notes: what is not known, and why.
    """

    program: str
    temporary: int
    arguments: int
    results: int
    donated: int
    constants: int
    rows: tuple[MemoryRow, ...]
    spans: tuple[MemorySpan, ...]
    running: tuple[str, ...]
    budget: int | None = None
    plain: "MemoryReport | None" = None
    notes: tuple[str, ...] = ()

    @property
    def peak(self) -> int:
        """Bytes of all rows: what is held at the moment at which most is."""
        return sum(row.bytes for row in self.rows)

    @property
    def peak_at(self) -> int | None:
        """The instruction at which most is held; None if that is not known."""
        return int(self.over_time.sum(1).argmax()) if self.spans else None

    @property
    def over_time(self) -> np.ndarray:
        """Bytes held at each instruction, of each phase: int64 (instructions, 3), in the order of `PHASES`."""
        steps = np.zeros((len(self.running) + 2, len(PHASES)), np.int64)  # results last beyond the last instruction
        for span in self.spans:
            steps[span.start, PHASES.index(span.phase)] += span.bytes
            steps[span.stop, PHASES.index(span.phase)] -= span.bytes
        return steps.cumsum(0)[:-2]

    def __str__(self):
        return self.table()

    def __repr__(self):
        return str(self)

    def table(self, max_rows: int = 12) -> str:
        """Write the lines that hold most at the peak, and how much is held over time.

        Args:
          max_rows: number of lines to list; the others are summed.

        Returns:
          The lines, as one text.
        """
        lines = [self.summary()]
        rows: list[tuple[str, ...]] = [_cells(row, self.peak) for row in self.rows[:max_rows]]
        if len(self.rows) > max_rows:
            rest = sum(row.bytes for row in self.rows[max_rows:])
            rows.append((in_words(rest), share(rest, self.peak), "", f"{len(self.rows) - max_rows} more"))
        lines += [f"  {line}" for line in text_table(rows, align=">><")]
        if self.spans:
            lines.append(f"  over time {_sparks(self.over_time.sum(1), max(self.temporary, 1))}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def summary(self) -> str:
        """Say in one sentence what is held.

        Returns:
          The sentence.
        """
        text = f"{self.program} holds {in_words(self.temporary)} {beside(self)}"
        if self.plain is not None and self.budget is not None:
            share = self.temporary / max(self.plain.temporary, 1)
            text += (
                f"; memory= allows {in_words(self.budget)}, "
                f"without it: {in_words(self.plain.temporary)}, so this is {share:.0%}"
            )
        return text

    def svg(self) -> str:
        """Draw what is held over time and the lines that hold it at the peak, as SVG text.

        Returns:
          The text of an SVG file.
        """
        return svg(self)

    def html(self, path: str | Path | None = None) -> str | Path:
        """Write a page with the picture, and with the lines that hold memory at any moment that one points at.

        Args:
          path: the file to write, whole or not at all; None returns the text.

        Returns:
          The text, or the path that was written.
        """
        return html(self, path)

    def _repr_svg_(self) -> str:
        return self.svg()


def _cells(row: MemoryRow, total: int) -> tuple[str, ...]:
    text = row.source.text if row.source else ""
    return in_words(row.bytes), share(row.bytes, total), row.phase, row.where, text


def _sparks(held: np.ndarray, largest: int) -> str:
    """Draw a curve in one line of text: of each stretch of it, the largest value."""
    stretches = np.array_split(held, min(_SPARKS, len(held)))
    return "".join(_BARS[round(int(stretch.max()) / largest * (len(_BARS) - 1))] for stretch in stretches)


def memory(
    fun: Callable,
    argnums: int | Sequence[int] | None = 0,
    *,
    has_aux: bool = False,
    memory: str | int | float | None = None,
) -> Callable[..., MemoryReport]:
    """Say what the compiled gradient of a function holds over time, and for which lines.

    `print(dp.memory(loss)(parameters, batch))` compiles value and gradient together, and runs nothing: arrays among
    the arguments may be `jax.ShapeDtypeStruct`s. It reports what the compiler has laid out; `dp.diagnose(...).memory`
    lists what the rules keep, which a compiler may merge, divide or compute again.

    Args:
      fun: function with a real scalar as its result. With `argnums=None`, any function, such as a whole training step,
        which is reported as it is; one under `jax.jit` keeps its static and donated arguments.
      argnums: position of the argument to differentiate with respect to, or several; None to differentiate nothing.
      has_aux: whether `fun` returns a pair (value, auxiliary data).
      memory: a budget, as for `dp.grad`; the report has that of the plain gradient beside it.

    Returns:
      A function of the same arguments that returns a `MemoryReport`.

    Raises:
      TypeError: `fun` is not callable.
      ValueError: `memory` is no budget, or is given where nothing is differentiated; or, when the report is made, no
        plan is within it.
    """
    check_callable(fun)
    if argnums is None and memory is not None:
        raise ValueError(
            f"memory= plans a gradient, and argnums=None differentiates nothing; found memory={memory!r}: "
            "give dp.grad in the function its own memory=, or leave argnums=None out"
        )
    budget = None if memory is None else budget_of(memory)

    def report(*args: Any, **kwargs: Any) -> MemoryReport:
        if argnums is None:
            return report_of(_compiled(fun, args, kwargs), _name(fun))
        gradient = value_and_grad(fun, argnums, has_aux)
        plain = report_of(_compiled(gradient, args, kwargs), f"the gradient of {_name(fun)}")
        if budget is None:
            return plain
        planned = _compiled(value_and_grad(fun, argnums, has_aux, memory=memory), args, kwargs)
        return report_of(planned, plain.program, budget.allowed(plain.temporary), plain)

    return report


def _name(fun: Callable) -> str:
    return getattr(fun, "__name__", type(fun).__name__)


def _compiled(fun: Callable, args: tuple, kwargs: dict) -> jax.stages.Compiled:
    if isinstance(fun, jax.stages.Wrapped):
        return compile_with_lines(fun.lower(*args, **kwargs))
    leaves, tree = jax.tree.flatten((args, kwargs))
    call, arrays = function_of_arrays(fun, leaves, tree, lambda x: is_array(x) or isinstance(x, jax.ShapeDtypeStruct))
    return compile_with_lines(jax.jit(call).lower(*arrays))


def report_of(
    compiled: jax.stages.Compiled, program: str, budget: int | None = None, plain: MemoryReport | None = None
) -> MemoryReport:
    """Make the report of a compiled program."""
    figures = compiled.memory_analysis()
    if figures is None:
        raise ValueError(
            "expected a compiler that tells what a program holds, as those for CPU and GPU do; found one that does not"
        )
    read = memory_over_time(compiled)
    spans = _spans(read) if read else ()
    rows = _rows(spans)
    return MemoryReport(
        program=program,
        temporary=figures.temp_size_in_bytes,
        arguments=figures.argument_size_in_bytes,
        results=figures.output_size_in_bytes,
        donated=figures.alias_size_in_bytes,
        constants=read.constants if read else 0,
        rows=rows,
        spans=spans,
        running=read.phases if read else (),
        budget=budget,
        plain=plain,
        notes=tuple(_notes(read, sum(row.bytes for row in rows), figures.temp_size_in_bytes)),
    )


def _notes(read: MemoryOverTime | None, peak: int, temporary: int):
    if read is None:
        yield (
            f"the compiler for {jax.default_backend()} does not say where it puts which value: the figures are its "
            "own, and which lines hold them is not known"
        )
    elif abs(peak - temporary) > _FAR * temporary:
        yield (
            f"the lines hold {in_words(peak)} at the peak, and the compiler sets aside {in_words(temporary)}: the rest "
            "are gaps between values"
        )


def _spans(read: MemoryOverTime) -> tuple[MemorySpan, ...]:
    sources = [_source(held.frames) for held in read.held]
    return tuple(
        MemorySpan(
            piece.bytes,
            sources[piece.held],
            read.held[piece.held].phase,
            read.held[piece.held].operation,
            piece.start,
            piece.stop,
        )
        for piece in visible(read.held)
    )


def _source(frames: Sequence[RawFrame]) -> Source | None:
    if not frames:
        return None
    first, *callers = (Frame(frame.file, frame.line, frame.function) for frame in frames)
    return Source(first.file, first.line, first.function, tuple(callers))


def _rows(spans: Sequence[MemorySpan]) -> tuple[MemoryRow, ...]:
    """Sum up what is held when most is, by line and phase."""
    changes: dict[int, int] = {}
    for span in spans:
        changes[span.start] = changes.get(span.start, 0) + span.bytes
        changes[span.stop] = changes.get(span.stop, 0) - span.bytes
    times = sorted(changes)
    if not times:
        return ()
    peak = times[int(np.cumsum([changes[time] for time in times]).argmax())]
    groups: dict[tuple, list[MemorySpan]] = {}
    for span in spans:
        if span.start <= peak < span.stop:
            groups.setdefault((line_of(span), span.phase), []).append(span)
    rows = []
    for group in groups.values():
        largest = max(group, key=lambda span: span.bytes)
        rows.append(MemoryRow(sum(s.bytes for s in group), largest.source, largest.phase, largest.operation))
    return tuple(sorted(rows, key=lambda row: -row.bytes))
