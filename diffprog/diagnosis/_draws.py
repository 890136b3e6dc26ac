"""Draws whose probabilities depend on an input, and whose outcomes reach the output: a gradient ignores them.

The gradient of a program is that of the sample, with each draw as it fell. Where an outcome jumps as a probability
grows, as that of a coin, its expectation has a further part, which no path of the program carries.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from diffprog._util.walk import walk
from diffprog.diagnosis import _replays as replays
from diffprog.diagnosis._arrays import array, operand
from diffprog.diagnosis._finding import Finding, where
from diffprog.graph._recording.nodes import Edge, Node, Place
from diffprog.graph._recording.recording import Recording

_OF_OUTCOMES = {"bernoulli", "binomial", "categorical", "choice", "geometric", "multinomial", "poisson"}
"""Functions of `jax.random` whose results jump as their parameters vary."""

_RANDOM = ("random_bits", "rng_bit_generator", "rng_uniform", "threefry2x32")
_MAX_TRIES = 24  # lines at which the program is run again, twice each

_FIX = (
    "for the expectation's derivative, sum over the outcomes if they are few, or use the score function: add "
    "log p(draw) * stop_gradient(loss), drawing from stop_gradient(p); or relax the draw, as Gumbel-softmax does"
)


def find(recording: Recording) -> list[Finding]:
    """Find the draws that reach the output and of whose probabilities a gradient knows nothing; one per line."""
    starts = [node for node in recording.nodes if node.primitive in _RANDOM]
    if not starts:
        return []
    random = set(walk(starts, lambda node: node.outputs))
    reached = replays.reaching(recording)
    findings: dict[tuple, Finding] = {}
    for key, nodes in _calls(recording).items():
        edges = [edge for node in nodes for edge in _lost_in_call(node)]
        if edges and any(_leaves(node, nodes, reached) for node in nodes):
            findings[key] = _finding(edges, key[0])
    tried: set[tuple] = set()
    for node in recording.nodes:
        key = node.label, node.source
        if node not in random or node.sampler in _OF_OUTCOMES or key in tried or len(tried) >= _MAX_TRIES:
            continue
        if edges := replays.lost(node, reached):
            tried.add(key)
            if _jumps(recording, node, random):
                findings[key] = _finding(edges, _noise_behind(node, random), node.label)
    return sorted(findings.values(), key=lambda finding: finding.node.index)


def _finding(edges: list[Edge], sampler: str | None, how: str | None = None) -> Finding:
    node = edges[0].target
    names = [x.label for x in replays.inputs_behind(edges)]
    name = f"jax.random.{sampler}" if sampler else "a random number"
    what = name if how is None else f"{'a comparison' if how in _COMPARISONS else how} with {name}"
    depends = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") or "an input"
    title = f"gradient of the sample, not of the expectation: it ignores the draw by {what}"
    lines = (f"drawn at {where(node)}", f"its probabilities depend on {depends}, and its outcome reaches the output")
    return Finding("draw", f"draw by {what}", node, title, lines, _FIX)


# ---------------------------------------------------------------- samplers of JAX


def _calls(recording: Recording) -> dict[tuple, list[Node]]:
    """Group the operations within samplers of outcomes by (sampler, line)."""
    calls: dict[tuple, list[Node]] = {}
    for node in recording.nodes:
        if node.sampler in _OF_OUTCOMES:
            calls.setdefault((node.sampler, node.source), []).append(node)
    return calls


def _lost_in_call(node: Node) -> list[Edge]:
    """List the edges whose gradient an operation within a sampler cuts off; its loops may end by its result alone."""
    if node.primitive == "stop_gradient" or all(node.differentiable):
        return []
    return [edge for edge in node.incoming if edge.source.differentiable[edge.output]]


def _leaves(node: Node, call: list[Node], reached: set[Node]) -> bool:
    """Whether a result of a sampler is used outside of it on the way to the output, or is the output."""
    if node not in reached:
        return False
    return not node.outgoing or any(user in reached and user.sampler != node.sampler for user in node.outputs)


def _noise_behind(node: Node, random: set[Node]) -> str | None:
    """Name the sampler of the nearest random numbers behind an operation."""
    behind = walk([node], lambda n: [x for x in n.inputs if x in random], nearest_first=True)
    return next((x.sampler for x in behind if x.sampler is not None), None)


# ---------------------------------------------------------------- comparisons of random numbers


def _jumps(recording: Recording, node: Node, random: set[Node]) -> bool:
    """Whether the output jumps where the outcome of an operation on random numbers changes.

    The operand is moved to where the outcome is about to change, and the outcome is set to either side: of
    `where(x > 0, x, 0.1 * x)` nothing jumps at x = 0, of `where(u < p, a, b)` something does at u = p.
    """
    crossing = _CROSSINGS.get(node.primitive)
    if crossing is None:  # a search in the newest JAX, of which there is no inside to be seen
        return node.primitive == "call_hi_primitive" and not _is_smooth_use(node, random)
    outputs = []
    for moved, outcomes in crossing(node, random):
        for outcome in outcomes:
            outputs.append(replays.output(recording, {**moved, **outcome}))
        before, after = outputs[-2:]
        if before is None or after is None:
            return False
        scale = max(np.max(np.abs(before), initial=0), np.max(np.abs(after), initial=0))
        if not np.isfinite(scale):
            return not _is_smooth_use(node, random)
        if np.max(np.abs(before - after), initial=0) > 1e-4 * scale:
            return True
    return False


def _is_smooth_use(node: Node, random: set[Node]) -> bool:
    """Whether all random operands of an operation depend on the inputs themselves, as an activation's."""
    return all(edge.source.differentiable[edge.output] for edge in node.incoming if edge.source in random)


Crossing = tuple[dict[Place, Any], list[dict[Place, Any]]]


def _comparison(node: Node, random: set[Node]) -> Iterator[Crossing]:
    sides = [i for i, x in enumerate(node.arguments) if isinstance(x, Place) and x.node in random]
    sides.sort(key=lambda i: node.arguments[i].node.differentiable[node.arguments[i].output])  # pure noise first
    x, other = operand(node, sides[0]), operand(node, 1 - sides[0])
    if x is None or other is None:
        return
    shape = node.avals[0].shape
    equal = np.broadcast_to(other, x.shape if np.ndim(other) == 0 else shape)
    yield _move(node, sides[0], equal), [_set(node, np.full(shape, outcome)) for outcome in (False, True)]


def _steps(node: Node, _random: set[Node], at: Callable, sides: Iterable[float]) -> Iterator[Crossing]:
    x = operand(node, 0)
    if x is not None:
        moved = at(x)
        yield _move(node, 0, moved), [_set(node, moved + side) for side in sides]


def _choice(node: Node, _random: set[Node]) -> Iterator[Crossing]:
    """Let all elements tie, and choose the first or the last."""
    x, (axis,) = operand(node, 0), node.params["axes"]
    if x is None or x.shape[axis] < 2:
        return
    largest = np.max(x, axis, keepdims=True)
    shape = node.avals[0].shape
    outcomes = [_set(node, np.full(shape, i)) for i in (0, x.shape[axis] - 1)]
    yield _move(node, 0, np.broadcast_to(largest, x.shape)), outcomes


def _order(node: Node, _random: set[Node]) -> Iterator[Crossing]:
    """Let all elements tie, and put what is sorted along into one order or the other."""
    x, axis = operand(node, 0), node.params.get("dimension", -1)
    if x is None or not x.shape or x.shape[axis] < 2:
        return
    fixed = [i for i, passes in enumerate(node.differentiable) if not passes]
    indices = [array(node.values[i]) for i in fixed]
    if any(i is None for i in indices):
        return
    level = np.broadcast_to(np.mean(x, axis, keepdims=True), x.shape)
    outcomes: list[dict] = [{}, {}]
    for i, index in zip(fixed, indices, strict=True):
        dtype = node.avals[i].dtype
        outcomes[0][Place(node, i)] = np.sort(index, axis).astype(dtype)
        outcomes[1][Place(node, i)] = np.flip(np.sort(index, axis), axis).astype(dtype)
    yield _move(node, 0, level), outcomes


_COMPARISONS = ("lt", "le", "gt", "ge", "lt_to", "le_to")
_CROSSINGS: dict[str, Callable[[Node, set[Node]], Iterator[Crossing]]] = {
    **dict.fromkeys(_COMPARISONS, _comparison),
    **dict.fromkeys(("argmax", "argmin"), _choice),
    **dict.fromkeys(("sort", "top_k"), _order),
    **dict.fromkeys(("floor", "convert_element_type"), partial(_steps, at=np.round, sides=(0, -1))),
    "ceil": partial(_steps, at=np.round, sides=(0, 1)),
    "round": partial(_steps, at=lambda x: np.floor(x) + 0.5, sides=(-0.5, 0.5)),
    "sign": partial(_steps, at=np.zeros_like, sides=(-1, 1)),
}


def _set(node: Node, outcome: np.ndarray) -> dict[Place, Any]:
    return {Place(node, 0): outcome.astype(node.avals[0].dtype)}


_COPIES = ("reshape", "squeeze", "expand_dims", "broadcast_in_dim", "convert_element_type", "copy")


def _move(node: Node, argument: int, value: np.ndarray) -> dict[Place, Any]:
    """Give an operand another value, and with it what it is a copy of."""
    place, changes = node.arguments[argument], {}
    while isinstance(place, Place):
        aval = place.node.avals[place.output]
        if aval.size != value.size:
            break
        value = value.reshape(aval.shape)
        changes[place] = value.astype(aval.dtype)
        if place.node.primitive not in _COPIES:
            break
        place = place.node.arguments[0]
    return changes
