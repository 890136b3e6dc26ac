"""`Patching`: what explains the difference of two runs."""

import linecache
import pathlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.graph import Edge, Node, Recording, Selector


class LineCredit(NamedTuple):
    """What a line of the program has to do with the difference.

    Attributes:
      file: its file; "" for what belongs to no line.
      line: its number, 0 for none.
      function: the function that it is in.
      credit: what its own part is worth; the credits of all lines add up to the difference of the scores.
      alone: by how much the score really changes if this line alone reads the clean run's inputs and decides as in the
        clean run; None where it was not run.
      restored: by how much the score really changes if all values of this line are those of the clean run, wherever
        their difference came from; None where it was not run.
      operations: how many of its operations have a partner in the other run.
      unmatched: how many have none.
    """

    file: str
    line: int
    function: str
    credit: float
    alone: float | None
    restored: float | None
    operations: int
    unmatched: int

    @property
    def text(self) -> str:
        """The line itself, without indentation; empty if the file can't be read."""
        return linecache.getline(self.file, self.line).strip() if self.file else ""

    def __str__(self) -> str:
        where = f"{pathlib.Path(self.file).name}:{self.line}" if self.file else "no line"
        return f"{where}  {self.credit:+.4g}  {self.text}"


class NodeCredit(NamedTuple):
    """What the difference of one operation's results is worth.

    Attributes:
      node: of the corrupt recording.
      credit: the estimate (clean value - corrupt value) x gradient, summed over its elements.
      own: the same, less what the differences of its arguments are worth.
      effect: by how much the score really changes with the clean value; None where it was not run.
    """

    node: Node
    credit: float
    own: float
    effect: float | None


class EdgeCredit(NamedTuple):
    """What the difference is worth that goes along one edge.

    Attributes:
      edge: of the corrupt recording.
      credit: the estimate (clean value - corrupt value) x gradient that comes through the edge, summed.
      effect: by how much the score really changes if this one operation reads the clean value; None where not run.
    """

    edge: Edge
    credit: float
    effect: float | None


@dataclass(frozen=True, eq=False)
class Patching:
    """What explains the difference of two runs.

    Attributes:
      values: credit of the inputs, like the function's argument; None for leaves that are no floats. With `at=`, a dict
        from selector to credit, shaped like the value; a list where it means several.
      score: of the clean run.
      baseline_score: of the corrupt run.
      gap: score - baseline_score - the sum of `values`: what a linear estimate from there misses. One number per
        example if all inputs are batches.
      by_line: a `LineCredit` of each line, the largest first. Their sum is the difference.
      by_node: a `NodeCredit` of each node with a partner, the largest first.
      by_edge: an `EdgeCredit` of each edge, the largest first.
      ways: what went another way: branches, and loops that ran more or fewer times, one sentence each.
      clean, corrupt: the recordings; nodes and edges are those of the corrupt one.
      only_clean, only_corrupt: nodes without a partner.
      steps: points on the way over which gradients are averaged; None for those of the corrupt run.
      evaluations: how often the program was run.
      error, converged, unruled: nothing, as no estimate is sampled and no rule replaced.
      method: its name.
    """

    values: Any
    score: jax.Array
    baseline_score: jax.Array
    gap: jax.Array | None
    by_line: list[LineCredit]
    by_node: list[NodeCredit]
    by_edge: list[EdgeCredit]
    ways: list[str]
    clean: Recording
    corrupt: Recording
    only_clean: list[Node]
    only_corrupt: list[Node]
    steps: int | None
    evaluations: int
    _credit: Callable[[Node], list] = field(repr=False)
    _effect: Callable[[list[Node]], float] = field(repr=False)
    _alone: Callable[[list[Node]], float] = field(repr=False)
    error: None = None
    converged: None = None
    unruled: tuple[str, ...] = ()
    method: str = "patching"

    @property
    def difference(self) -> float:
        """Score of the clean run minus score of the corrupt run, summed over examples."""
        return _sum(self.score) - _sum(self.baseline_score)

    @property
    def unexplained(self) -> float:
        """The difference minus the credits of all lines: rounding, values not kept, ways that the runs do not share."""
        return self.difference - sum(line.credit for line in self.by_line)

    def credit(self, selector: Node | Selector) -> Any:
        """Return what the difference of selected values is worth, element by element.

        Args:
          selector: see `diffprog.graph`; of nodes of the corrupt recording.

        Returns:
          An array like the value; a list of arrays where the selector means several. Zeros where no gradient arrives,
          and where a value has no partner in the clean run.

        Raises:
          ValueError: the selector means nothing.
        """
        found = [part for node in self.corrupt.select(selector) for part in filled(node, self._credit(node))]
        return found[0] if len(found) == 1 else found

    @property
    def credits(self) -> dict[Node | Edge, float]:
        """Credit of each node and edge of the corrupt recording, to draw it by: `corrupt.svg(credit=credits)`."""
        return {**{x.node: x.credit for x in self.by_node}, **{x.edge: x.credit for x in self.by_edge}}

    def effect(self, selector: Node | Selector) -> float:
        """Patch: run the corrupt run again with the clean run's values of all that a selector means.

        Args:
          selector: see `diffprog.graph`, such as a line, "simulation.py:214".

        Returns:
          By how much the score changes, summed over examples.

        Raises:
          ValueError: the selector means nothing that the clean run computed.
        """
        return self._effect(self.clean.select(selector))

    def alone(self, selector: Selector) -> float:
        """Run the corrupt run again with selected operations as in the clean run, but for computed floats.

        They read the clean run's inputs, are the clean run's operations, and decide as in the clean run; the floats
        that they are given are those of the new run.

        Args:
          selector: see `diffprog.graph`, such as a line, "simulation.py:214".

        Returns:
          By how much the score changes, summed over examples.

        Raises:
          ValueError: the selector means nothing that the clean run computed.
        """
        return self._alone(self.clean.select(selector))

    def __str__(self) -> str:
        from diffprog.attribute._inside.listing import listing

        return listing(self)

    def __repr__(self) -> str:
        first = f"; first of {len(self.by_line)} lines: {self.by_line[0]}" if self.by_line else ""
        return f"Patching({self.corrupt.function}: difference {self.difference:.4g}{first})"


def _sum(score: Any) -> float:
    return float(np.sum(np.asarray(score, np.float64)))


def filled(node: Node, parts: list) -> list[jax.Array]:
    """Put zeros where a node's floats have no credit."""
    kept = [(aval, part) for aval, part in zip(node.avals, parts, strict=True) if hasattr(aval, "dtype")]
    floats = [(aval, part) for aval, part in kept if jnp.issubdtype(aval.dtype, jnp.inexact)]
    real = lambda aval: jnp.finfo(aval.dtype).dtype
    return [jnp.asarray(np.zeros(aval.shape) if part is None else part, real(aval)) for aval, part in floats]
