"""What a recording is made of: nodes, the edges between them, source lines."""

import linecache
import pathlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from diffprog.graph._recording.summaries import Summary, summarize


@dataclass(frozen=True)
class Frame:
    """A line of code that was running: file, line number, name of the function."""

    file: str
    line: int
    function: str

    @property
    def text(self) -> str:
        """The line itself, without indentation; empty if the file can't be read."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self):
        return f"{pathlib.Path(self.file).name}:{self.line}"


@dataclass(frozen=True)
class Source(Frame):
    """The line of the user's code that an operation comes from.

    Inside a function under `jit` it is the function's own line; in one of JAX's own, the line that calls it now,
    never the line of whoever called it first and had it compiled. Lines of installed packages stand in only where
    there is no other.

    Attributes:
      callers: the user's frames around it, the nearest first.
    """

    callers: tuple[Frame, ...] = ()

    def context(self, around: int = 2) -> list[tuple[int, str]]:
        """Read the line and its neighbors.

        Args:
          around: number of lines before and after it.

        Returns:
          (line number, text) of each; empty if the file can't be read.
        """
        lines = linecache.getlines(self.file)
        first, last = max(1, self.line - around), min(len(lines), self.line + around)
        return [(n, lines[n - 1].rstrip("\n")) for n in range(first, last + 1)] if lines else []


class Place(NamedTuple):
    """One of a node's results."""

    node: "Node"
    output: int


@dataclass(eq=False)
class Node:
    """An operation of a recorded run, one of the run's inputs, or a constant that it used.

    Attributes:
      index: its position in `recording.nodes`; what it uses comes before it.
      primitive: the JAX primitive's name; "input" or "constant" for what no operation made.
      label: what to call it in a drawing: the primitive, the name of a custom function (`relu`), the name of an input
        ("params['w']"), the name given to `dp.tap`.
      params: the primitive's parameters.
      arguments: what it was applied to: a `Place`, or a number or array that no node stands for.
      source: the user's line, None for inputs and where nothing is known.
      path: the modules and scopes around it, "MLP/Dense_0"; an iteration of a loop is "scan[3]"; "" at the top.
      iteration: index of the iteration in each loop around it, the outermost first.
      variable: the variable that the source line assigns, if this is the value that it assigns; else None.
      tap: the name that `dp.tap` gave to it, or None.
      sampler: the function of `jax.random` that it is part of ("bernoulli"), or None.
      single: whether it has one result rather than a list of them.
      avals: type (shape and dtype) of each result.
      values: each result: an array, a `Summary`, or None if it was not kept.
      gradients: of the output with respect to each result, kept in the same way; None before `backward`, and where
        the output does not depend on it.
      differentiable: per result, whether a gradient with respect to it exists: it depends on a differentiable input
        by a path that nothing cuts.
      status: "live" if a gradient can pass through it; "blocked" if it uses something live and none of its results has
        a gradient (an integer, a comparison, `stop_gradient`); else "constant".
      incoming, outgoing: its edges.
      taped: its operation on the tape, through which gradients go back; None if it has no gradient.
      compute: values of its arguments -> the list of its results; None for inputs, constants and what runs only once.
    """

    index: int
    primitive: str
    label: str
    params: dict
    arguments: tuple
    source: Source | None
    path: str
    iteration: tuple[int, ...]
    tap: str | None
    single: bool
    avals: list
    values: list
    differentiable: list[bool]
    status: str
    variable: str | None = None
    sampler: str | None = None
    gradients: list = field(default_factory=list)
    incoming: list["Edge"] = field(default_factory=list)
    outgoing: list["Edge"] = field(default_factory=list)
    taped: Any = None
    compute: Callable[..., list] | None = None

    def _one(self, items):
        return (items[0] if items else None) if self.single else list(items)

    @property
    def value(self):
        """Its result, or the list of its results."""
        return self._one(self.values)

    @property
    def gradient(self):
        """The gradient with respect to `value`."""
        return self._one(self.gradients)

    @property
    def shape(self):
        """Shape of its result, or the list of its results' shapes."""
        return self._one([getattr(aval, "shape", None) for aval in self.avals])

    @property
    def dtype(self):
        """Type of its result, or the list of its results' types."""
        return self._one([getattr(aval, "dtype", None) for aval in self.avals])

    @property
    def inputs(self) -> list["Node"]:
        """The nodes whose results it uses, in the order of its arguments."""
        return [edge.source for edge in self.incoming]

    @property
    def outputs(self) -> list["Node"]:
        """The nodes that use its results."""
        return [edge.target for edge in self.outgoing]

    @cached_property
    def summary(self) -> Summary | None:
        """Summary of its first result."""
        return summarize(self.values[0]) if self.values else None

    @property
    def mark(self) -> str:
        """What a reader should notice first.

        "nan" (value or gradient is not finite somewhere), "blocked", "zero" (the gradient is zero everywhere), "unused"
        (no gradient arrived), or "".
        """
        written_down = self.status == "constant" and not self.incoming  # an infinity, as the start of a maximum
        summaries = [summarize(x) for x in (*(() if written_down else self.values), *self.gradients)]
        if any(s is not None and s.nonfinite > 0 for s in summaries):
            return "nan"
        if self.status == "blocked":
            return "blocked"
        if self.status != "live" or not self.gradients:
            return ""
        if all(g is None for g in self.gradients):
            return "unused"
        gradients = [summary for summary in map(summarize, self.gradients) if summary is not None]
        return "zero" if all(summary.zeros == 1 for summary in gradients) else ""

    def __repr__(self):
        where = f" {self.source}" if self.source else ""
        path = f" in {self.path}" if self.path else ""
        types = ", ".join(str(getattr(a, "str_short", lambda: a)()) for a in self.avals)
        return f"<{self.index} {self.label} {types}{path}{where}>"


@dataclass(eq=False)
class Edge:
    """A result of one node, used as an argument of another.

    Attributes:
      source, output: the node that made it, and which of its results it is.
      target, argument: the node that uses it, and in which place.
      gradient: the part of the gradient of `source` that came through here: the parts of all edges sum to it. An
        array or a `Summary`; None before `backward`, and if nothing came.
      live: whether a gradient can come through: `source` has one, and `target` passes one on.
    """

    source: Node
    output: int
    target: Node
    argument: int
    live: bool
    gradient: Any = None

    def __repr__(self):
        return f"<edge {self.source.index} {self.source.label} -> {self.target.index} {self.target.label}>"


@dataclass(frozen=True, eq=False)
class Decision:
    """A branch that was taken, or how often a loop ran.

    Attributes:
      primitive: "cond", "scan" or "while".
      taken: index of the branch, or number of iterations.
      source: the line that decided: of the condition; of the call, where no operation is the condition.
      path: the modules and scopes around it.
      iteration: index of the iteration in each loop around it, the outermost first.
      nodes: the operations that were written out for it, as positions in `recording.nodes`.
    """

    primitive: str
    taken: int
    source: Source | None
    path: str
    iteration: tuple[int, ...]
    nodes: range
