"""Which operation of one run is which of another: by its line, its scopes, its iteration and its turn there."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from diffprog._jax_internals import typeof
from diffprog.graph import Decision, Node, Place, Recording, Source

Site = tuple
"""What an operation is known by in another run of the same program."""


class Turns:
    """Numbers operations that are alike in all but the order in which they run, as those of a loop in Python."""

    def __init__(self) -> None:
        self._seen: Counter = Counter()

    def site(
        self, primitive: str, label: str, path: str, iteration: tuple, source: Source | None, arguments: Iterable
    ) -> Site:
        """Name the next operation.

        Args:
          primitive: as of a `Node`.
          label: likewise.
          path: likewise.
          iteration: likewise.
          source: likewise.
          arguments: what it is applied to, values or places.
        """
        alike = primitive, label, path, iteration, _lines(source), tuple(map(_type, arguments))
        self._seen[alike] += 1
        return (*alike, self._seen[alike])


def sites(recording: Recording) -> dict[Site, Node]:
    """Name all nodes of a recording, in order."""
    turns = Turns()
    title = lambda node: node.tap or node.label
    return {turns.site(n.primitive, title(n), n.path, n.iteration, n.source, n.arguments): n for n in recording.nodes}


def _lines(source: Source | None) -> tuple:
    return () if source is None else ((source.file, source.line), *((f.file, f.line) for f in source.callers))


def _type(x: Any) -> tuple:
    aval = x.node.avals[x.output] if isinstance(x, Place) else typeof(x)
    return getattr(aval, "shape", None), getattr(aval, "dtype", None)


@dataclass(frozen=True)
class Difference:
    """A branch or a loop that went another way in the two runs.

    Attributes:
      clean, corrupt: what was decided in each run.
    """

    clean: Decision
    corrupt: Decision

    def __str__(self) -> str:
        where = "" if self.clean.source is None else f" at {self.clean.source}"
        inside = f" in {self.clean.path}" if self.clean.path else ""
        if self.clean.primitive == "cond":
            ways = f"takes branch {self.clean.taken} in the clean run, {self.corrupt.taken} in the corrupt run"
        else:
            ways = f"runs {self.clean.taken} times in the clean run, {self.corrupt.taken} times in the corrupt run"
        return f"{self.clean.primitive}{where}{inside} {ways}"


class Match:
    """Two recordings of one program, side by side.

    Attributes:
      clean, corrupt: the recordings.
      sites: of each node of the clean run.
      partner: node of the corrupt run -> node of the clean run.
      only_clean, only_corrupt: nodes without a partner.
    """

    def __init__(self, clean: Recording, corrupt: Recording):
        self.clean, self.corrupt = clean, corrupt
        named = sites(clean)
        self.sites = {node: site for site, node in named.items()}
        pairs = [(node, named.get(site)) for site, node in sites(corrupt).items()]
        self.partner = {node: other for node, other in pairs if other is not None and _same_results(node, other)}
        partners = set(self.partner.values())
        self.only_clean = [node for node in clean.nodes if node not in partners]
        self.only_corrupt = [node for node in corrupt.nodes if node not in self.partner]

    @cached_property
    def differences(self) -> list[Difference]:
        """The branches and loops that went another way, those inside of others left out."""
        pairs = _pairs(self.clean.decisions, self.corrupt.decisions)
        found = [Difference(one, other) for one, other in pairs if one.taken != other.taken]
        around = lambda i: found[i + 1 :]  # inner decisions come first
        return [
            x
            for i, x in enumerate(found)
            if not any(_within(x.corrupt, y.corrupt) or _within(x.clean, y.clean) for y in around(i))
        ]

    def decided_by(self, node: Node, in_clean: bool) -> Source | None:
        """Return the line because of which a node has no partner: of the branch or loop that it is in, or its own."""
        for difference in self.differences:
            decision = difference.clean if in_clean else difference.corrupt
            if node.index in decision.nodes:
                return decision.source
        return node.source


def _within(inner: Decision, outer: Decision) -> bool:
    scope = f"{outer.path}/{outer.primitive}[".removeprefix("/")
    first, last = inner.nodes.start >= outer.nodes.start, inner.nodes.stop <= outer.nodes.stop
    return first and last and inner.path.startswith(scope)


def _same_results(node: Node, other: Node) -> bool:
    return [getattr(a, "shape", None) for a in node.avals] == [getattr(a, "shape", None) for a in other.avals]


def _pairs(clean: list[Decision], corrupt: list[Decision]) -> list[tuple[Decision, Decision]]:
    numbered = []
    for decisions in (clean, corrupt):
        seen: Counter = Counter()
        named = {}
        for decision in decisions:
            alike = decision.primitive, decision.path, decision.iteration, _lines(decision.source)
            seen[alike] += 1
            named[(*alike, seen[alike])] = decision
        numbered.append(named)
    return [(decision, numbered[1][name]) for name, decision in numbered[0].items() if name in numbered[1]]
