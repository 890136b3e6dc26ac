"""What the differences between two runs are worth: per node, per edge and per line, from one backward pass.

With v' a value of the clean run, v of the corrupt run, and g the gradient of the score with respect to v, the
difference v' - v is worth g (v' - v). The gradients of a value's edges add up to the value's. Therefore the sum over
all operations of what their results' differences are worth, less what those of their arguments are worth, is the
difference of the scores, whatever the program: everything in between cancels.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attribute._inside.matching import Match
from diffprog.graph import Edge, Node, Place, Recording, Source, Summary

Line = tuple[str, int] | None
"""File and number of a line; None for what has none."""


def line_of(source: Source | None) -> Line:
    """Return the line of a source."""
    return None if source is None else (source.file, source.line)


def value_of(argument: Any) -> Any:
    """Return a value: of a place, or the argument itself; None if it was not kept whole."""
    value = argument.node.values[argument.output] if isinstance(argument, Place) else argument
    return None if isinstance(value, Summary) else value


def difference(clean: Any, corrupt: Any) -> np.ndarray | None:
    """Subtract two values, in double precision; None for what has no gradient or was not kept."""
    if clean is None or corrupt is None or not is_inexact(corrupt) or not is_inexact(clean):
        return None
    wide = np.complex128 if jnp.issubdtype(jnp.result_type(corrupt), jnp.complexfloating) else np.float64
    clean, corrupt = np.asarray(clean).astype(wide), np.asarray(corrupt).astype(wide)
    if clean.shape != corrupt.shape:
        return None
    with np.errstate(invalid="ignore"):
        return np.where(clean == corrupt, 0, clean - corrupt)  # of two equal infinities as well


def worth(gradient: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Multiply a gradient by a difference, element by element.

    Nothing times infinity is nothing. An infinite difference, of a mask's -inf for example, has no worth either: what
    comes of it counts where it is finite again.
    """
    with np.errstate(invalid="ignore"):
        return np.where((gradient == 0) | (delta == 0) | ~np.isfinite(delta), 0.0, np.real(gradient * delta))


def is_inexact(x: Any) -> bool:
    """Whether a value is a float, or a complex number."""
    dtype = getattr(x, "dtype", None)
    if dtype is None:
        return isinstance(x, (float, complex))
    return not jax.dtypes.issubdtype(dtype, jax.dtypes.extended) and jnp.issubdtype(dtype, jnp.inexact)


class Gradients:
    """Gradients at nodes and edges of a run, averaged over runs on a path."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[Node, int], np.ndarray] = {}
        self._edges: dict[Edge, np.ndarray] = {}

    def add(self, recording: Recording, weight: float, node_in: dict[Node, Node]):
        """Add the gradients of a recording.

        Args:
          recording: after `backward`.
          weight: what they count.
          node_in: its nodes -> nodes of the run that is explained; others are left out.
        """
        for node in recording.nodes:
            own = node_in.get(node)
            if own is None:
                continue
            for i, gradient in enumerate(node.gradients):
                self._more(self._nodes, (own, i), gradient, weight)
            for edge, mine in zip(node.incoming, own.incoming, strict=False):
                if edge.argument == mine.argument:
                    self._more(self._edges, mine, edge.gradient, weight)

    def at(self, node: Node, output: int) -> np.ndarray | None:
        """Return the gradient with respect to a result; None where none arrives."""
        return self._nodes.get((node, output))

    def along(self, edge: Edge) -> np.ndarray | None:
        """Return the gradient that comes through an edge; None where none does."""
        return self._edges.get(edge)

    @staticmethod
    def _more(sums, place, gradient, weight):
        if gradient is None or isinstance(gradient, Summary):
            return
        wide = np.complex128 if jnp.iscomplexobj(gradient) else np.float64
        part = np.asarray(gradient).astype(wide) * weight
        sums[place] = sums[place] + part if place in sums else part


class Credits:
    """What the differences are worth.

    Attributes:
      nodes: per node of the corrupt run that has a partner, the worth of its results' difference.
      own: the same, less the worth of the differences of what it uses.
      edges: per edge, the worth of the difference along it.
      lines: per line, the worth of what its operations make different: see `attribute.patching`.
    """

    def __init__(self, match: Match, gradients: Gradients):
        self._match, self._gradients, self._only_clean_nodes = match, gradients, set(match.only_clean)
        self.edges = {edge: self._of_edge(edge) for edge in match.corrupt.edges}
        self.nodes = {node: _total(self.of_results(node)) for node in match.partner}
        self.own = {
            node: credit - sum(self.edges[edge] for edge in node.incoming) for node, credit in self.nodes.items()
        }
        self.lines = self._of_lines()

    def of_results(self, node: Node) -> list[np.ndarray | None]:
        """Compute the worth of the difference of each result of a node, element by element."""
        partner = self._match.partner.get(node)
        if partner is None:
            return [None] * len(node.values)
        found: list[np.ndarray | None] = []
        for i in range(len(node.values)):
            gradient = self._gradients.at(node, i)
            delta = None if gradient is None else difference(value_of(Place(partner, i)), value_of(Place(node, i)))
            found.append(None if delta is None or gradient is None else worth(gradient, delta))
        return found

    def _of_edge(self, edge: Edge) -> float:
        """Compute the worth of what comes along an edge; without a partner of the target, of what goes into it."""
        partner, node = self._match.partner.get(edge.target), edge.target
        if partner is None:
            return self._of_source(edge)
        return self._worth(edge, partner.arguments[edge.argument], node.arguments[edge.argument])

    def _of_source(self, edge: Edge) -> float:
        """Compute what the difference of its source is worth along an edge."""
        partner = self._match.partner.get(edge.source)
        if partner is None:
            return 0.0
        return self._worth(edge, Place(partner, edge.output), Place(edge.source, edge.output))

    def _worth(self, edge: Edge, clean: Any, corrupt: Any) -> float:
        gradient = self._gradients.along(edge)
        delta = None if gradient is None else difference(value_of(clean), value_of(corrupt))
        return 0.0 if gradient is None or delta is None else float(np.sum(worth(gradient, delta)))

    def _of_lines(self) -> dict[Line, float]:
        lines: dict[Line, float] = defaultdict(float)
        partner, decided_by = self._match.partner, self._match.decided_by
        for node, credit in self.own.items():
            if node.primitive != "input":
                lines[line_of(node.source)] += credit
        for edge in self._match.corrupt.edges:
            source, target = edge.source, edge.target
            credit = self.edges[edge]
            if target not in partner:
                # What a way that only the corrupt run goes would have made of the difference is no difference.
                if source.primitive != "input":
                    lines[line_of(decided_by(target, False))] -= credit
                continue
            if source.primitive == "input":
                lines[line_of(target.source)] += self._of_source(edge)
            self._misled(lines, edge, credit)
        self._returned(lines)
        return lines

    def _returned(self, lines):
        """Count what is returned without an operation, or by another one than in the clean run."""
        (clean,), (corrupt,) = self._match.clean.outputs, self._match.corrupt.outputs
        if clean is None or corrupt is None:
            return
        gradient = self._gradients.at(corrupt.node, corrupt.output)
        delta = difference(value_of(clean), value_of(corrupt))
        if gradient is None or delta is None:
            return
        partner = self._match.partner.get(corrupt.node)
        counted = 0.0 if partner is None else _total([self.of_results(corrupt.node)[corrupt.output]])
        if corrupt.node.primitive == "input":
            lines[None] += counted - sum(self._of_source(edge) for edge in corrupt.node.outgoing)
        if partner is not clean.node:
            made_otherwise = self._match.decided_by(corrupt.node, False) if partner is None else None
            source = made_otherwise or self._match.decided_by(clean.node, True)
            lines[line_of(source)] += float(np.sum(delta)) - counted

    def _misled(self, lines, edge: Edge, credit: float):
        """Count to a branch or a loop what an operation gets from elsewhere than in the clean run."""
        partner = self._match.partner
        meant = partner[edge.target].arguments[edge.argument]
        made_by = meant.node if isinstance(meant, Place) else None
        if edge.source in partner and partner[edge.source] is made_by:
            return
        if edge.source not in partner:
            line = self._match.decided_by(edge.source, False)
        elif made_by is not None and made_by in self._only_clean_nodes:
            line = self._match.decided_by(made_by, True)
        else:
            line = edge.target.source
        lines[line_of(line)] += credit - self._of_source(edge)


def _total(parts: Iterable[np.ndarray | None]) -> float:
    return sum(float(np.sum(part)) for part in parts if part is not None)
