"""Answers that comparisons choose, as a bisection's: a gradient through them is not that of what is searched for.

A gradient sees the program with its comparisons held as they fell. Where what they choose settles by many small
steps, as in a bisection, the answer moves with the inputs all the same, and finite differences show how.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from diffprog._util.walk import walk
from diffprog.diagnosis import _replays as replays
from diffprog.diagnosis._arrays import array
from diffprog.diagnosis._finding import Finding, where
from diffprog.graph._recording.nodes import Edge, Node, Place
from diffprog.graph._recording.recording import Recording

_COMPARISONS = ("lt", "le", "gt", "ge", "lt_to", "le_to", "sign", "argmin", "argmax")
_CHOICES = ("argmin", "argmax", "sort", "top_k", "call_hi_primitive")  # these also outside of a loop
_MIN_ITERATIONS = 4
_STEPS = (
    (0.003, 0.01, 0.03),
    (0.01, 0.03, 0.1),
    (0.05, 0.1, 0.2),
)  # of finite differences, relative to the inputs' largest elements
_LARGE = 0.1  # a step at which something is missed if anything is
_TOLERANCE = 0.35  # how far the slopes by several steps, to both sides, may be apart, relative to their mean
_SHARE = 0.03  # of the output's slope, above which a difference counts

_FIX = (
    "differentiate the equation that the answer solves, by jax.lax.custom_root, or take one Newton step after the "
    "search, from stop_gradient(answer)"
)


Rerun = Callable[[dict[Node, Any]], Any]


class _Search(NamedTuple):
    """Comparisons on one line, all iterations of a loop together."""

    nodes: list[Node]
    edges: list[Edge]


def find(recording: Recording, rerun: Rerun) -> list[Finding]:
    """Find the lines whose comparisons choose an answer that moves with the inputs.

    Args:
      recording: after `backward`.
      rerun: values of inputs -> what the function returns for them.
    """
    reached = replays.reaching(recording)
    findings = []
    chosen = _searches(recording, lambda node: replays.lost(node, reached))
    everything = _Slopes(recording, chosen, rerun=None)
    if everything.missed() is not None:
        for search in chosen:
            slopes = everything if len(chosen) == 1 else _Slopes(recording, [search], rerun=None)
            if (missed := slopes.missed()) is not None:
                findings.append(_finding(search, slopes.held(), missed))
    if findings or any(node.primitive == "stop_gradient" for node in recording.nodes):
        return findings
    steering = [search for search in _searches(recording, _steers) if search.nodes[0].iteration]
    slopes = _Slopes(recording, chosen + steering, rerun)
    if steering and (missed := slopes.missed()) is not None:
        findings.append(_finding(steering[0], slopes.held(), missed))
    return findings


def _finding(search: _Search, held: float, missed: float) -> Finding:
    node = search.nodes[0]
    names = [x.label for x in replays.inputs_behind(search.edges)]
    depends = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    what = "loop" if node.iteration else node.label
    loop = next((frame for frame in (node.source.callers if node.source else ()) if node.iteration), node.source)
    title = f"derivative through a search: comparisons choose the answer of the {what} at {loop}"
    compared = f"compared {len(search.nodes)} times" if node.iteration else "chosen"
    lines = (
        f"{compared} at {where(node).replace(f', iteration {node.iteration[-1]}' if node.iteration else '', '')}",
        f"slope per relative change of {depends}: {held + missed:.4g} by finite differences, {held:.4g} with the "
        "comparisons held, as a gradient holds them",
    )
    return Finding("search", "search by comparisons", node, title, lines, _FIX)


def _searches(recording: Recording, lost: Callable[[Node], list[Edge]]) -> list[_Search]:
    """Collect comparisons that are repeated or choose among many, and the edges on which they lose a gradient."""
    groups: dict[tuple, _Search] = {}
    for node in recording.nodes:
        if node.primitive not in (*_COMPARISONS, *_CHOICES):
            continue
        if edges := lost(node):
            search = groups.setdefault((node.source, node.label), _Search([], []))
            search.nodes.append(node)
            search.edges.extend(edges)
    return [search for search in groups.values() if _is_search(search.nodes)]


def _steers(node: Node) -> list[Edge]:
    """List the edges on which a comparison loses a gradient, if it decides which branch runs, or how long a loop."""
    edges = [edge for edge in node.incoming if edge.source.differentiable[edge.output]]
    return edges if edges and any(map(_decides, walk([node], lambda n: n.outputs))) else []


def _decides(node: Node) -> bool:
    return not node.outgoing and node.avals[0].shape == () and node.avals[0].dtype.kind in "bi"


def _is_search(nodes: list[Node]) -> bool:
    return nodes[0].primitive in _CHOICES or len({node.iteration for node in nodes}) >= _MIN_ITERATIONS


class _Slopes:
    """Finite differences of a recording along a direction, run anew and with some outcomes held.

    Args:
      recording: after `backward`.
      searches: whose outcomes are held; those of all others are computed anew in both.
      rerun: to run the function itself anew rather than its recorded operations, so that branches may change.
    """

    def __init__(self, recording: Recording, searches: list[_Search], rerun: Rerun | None):
        rng = np.random.default_rng(0)
        self._recording, self._rerun = recording, rerun
        inputs = replays.inputs_behind([edge for search in searches for edge in search.edges])
        self._values = {node: array(node.values[0]) for node in inputs}
        self._directions = {node: _direction(rng, x) for node, x in self._values.items() if x is not None}
        self._held: dict[Place, Any] = {
            Place(node, i): value
            for search in searches
            for node in search.nodes
            for i, value in enumerate(node.values)
            if not node.differentiable[i]
        }
        self._outputs: dict[tuple[float, bool], np.ndarray | None] = {}

    def missed(self) -> float | None:
        """Sum the slopes of the outputs that are missed if outcomes are held; None unless many steps agree on it."""
        if (
            not self._values
            or any(x is None for x in self._values.values())
            or any(array(x) is None for x in self._held.values())
        ):
            return None
        if self._differences(_LARGE) is None:
            return None
        for steps in _STEPS:
            pairs = [self._differences(step) for step in steps]
            if any(pair is None for pair in pairs):
                continue
            slopes = np.concatenate([pair for pair in pairs if pair is not None])
            mean = slopes.mean(0)
            spread = np.linalg.norm(slopes - mean, axis=-1).max()
            if spread <= _TOLERANCE * np.linalg.norm(mean):
                return float(mean.sum())
        return None

    def held(self) -> float:
        """Sum the slopes of the outputs with the outcomes held."""
        step = _STEPS[0][0]
        above, below = self._output(step, True), self._output(-step, True)
        return float(((above - below) / (2 * step)).sum()) if above is not None and below is not None else np.nan

    def _differences(self, step: float) -> np.ndarray | None:
        """Return the slopes that are missed to either side, in two rows; None if nothing much is missed to one."""
        above, below, above_held, below_held = (
            self._output(signed, hold) for hold in (False, True) for signed in (step, -step)
        )
        if above is None or below is None or above_held is None or below_held is None:
            return None
        if not np.all(np.isfinite([above, below, above_held, below_held])):
            return None
        missed = np.stack([above - above_held, below_held - below]) / step
        slope = np.linalg.norm(above - below) / (2 * step)
        rounding = 1e-5 * np.linalg.norm(above) / step
        smallest = np.linalg.norm(missed, axis=-1).min()
        return missed if smallest > max(_SHARE * slope, rounding, 1e-30) else None

    def _output(self, step: float, hold: bool) -> np.ndarray | None:
        key = step, hold
        if key not in self._outputs:
            moved = {
                Place(node, 0): (self._values[node] + step * direction).astype(node.avals[0].dtype)
                for node, direction in self._directions.items()
            }
            if self._rerun is not None and not hold:
                self._outputs[key] = replays.numbers(self._rerun({place.node: x for place, x in moved.items()}))
            else:
                self._outputs[key] = replays.output(self._recording, moved | self._held if hold else moved)
        return self._outputs[key]


def _direction(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Draw a direction whose every element is as large as the largest of an array."""
    size = float(np.max(np.abs(x), initial=0)) or 1.0
    return size * (rng.choice([-1.0, 1.0], np.shape(x)) if np.size(x) > 1 else np.ones(np.shape(x)))
