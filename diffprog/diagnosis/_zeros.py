"""Inputs without a gradient: not used, cut by the program's structure, cut on purpose, or zero for these values.

Each input gets a finding; inputs whose findings have the same key share one.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from diffprog._tracer.errors import MissingDerivative
from diffprog._util.walk import walk
from diffprog.diagnosis._arrays import array, is_zero, operand, used_by, varies
from diffprog.diagnosis._causes import words
from diffprog.diagnosis._finding import Finding, where
from diffprog.diagnosis._patterns import is_rectifier, is_shifted_exponential
from diffprog.diagnosis._primitives import known
from diffprog.graph._recording.nodes import Edge, Node, Place
from diffprog.graph._recording.recording import Recording

_INPUTS = "{inputs}"  # in a title: the names of all inputs with the same key


def find(recording: Recording) -> list[Finding]:
    """Find the inputs whose gradient is missing or zero everywhere; those with one cause share a finding."""
    outputs = {place.node for place in recording.outputs if place is not None}
    needed = set(walk(outputs, lambda node: node.inputs))
    by_key: dict[tuple, tuple[Finding, list[str]]] = {}
    for node in recording.inputs:
        if not node.differentiable[0] or not np.prod(np.shape(node.values[0])):
            continue
        gradient = node.gradients[0]
        if gradient is None:
            key, finding = _missing(node, needed)
        elif is_zero(gradient):
            key, finding = _zero_here(node, outputs)
        else:
            continue
        by_key.setdefault(key, (finding, []))[1].append(node.label)
    return [replace(finding, title=finding.title.replace(_INPUTS, _named(names))) for finding, names in by_key.values()]


def _named(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# ---------------------------------------------------------------- no path


def _missing(node: Node, needed: set[Node]) -> tuple[tuple, Finding]:
    """Key and finding of an input at which no gradient arrives."""
    cuts = _cuts(node, needed)
    if not cuts:
        decisive = _decisive_cut(node)
        return _unused(node) if decisive is None else _steers(decisive)
    # What is stopped on its way to another cut, as within a softmax, is not what is missing.
    cuts = [cut for cut in cuts if cut.primitive != "stop_gradient" or not _only_leads_to(cut, cuts, needed)]
    unwanted = [cut for cut in cuts if cut.primitive != "stop_gradient"]
    guilty = (unwanted or cuts)[0]
    cause, remedy = _why_cut(guilty)
    distinct = {(cut.source or cut, cut.primitive): cut for cut in reversed(cuts)}  # the first iterations
    ordered = sorted(distinct.values(), key=lambda cut: cut.index)
    paths = [f"path {i}: {_why_cut(cut)[0]} at {where(cut)}" for i, cut in enumerate(ordered, 1)]
    which = "every path" if len(cuts) > 1 else "the only path"
    title = f"no gradient: {_INPUTS}: {which} to the output is cut"
    kind, fix = ("structure", remedy) if unwanted else ("on purpose", None)
    key = tuple((cut.source or cut, cut.primitive) for cut in cuts)
    return key, Finding("zero", cause, guilty, title, tuple(paths[:8]), fix, kind)


def _unused(node: Node) -> tuple[tuple, Finding]:
    users = [edge.target for edge in node.outgoing if edge.target.tap is None]
    places = tuple(list(dict.fromkeys(f"used at {where(user)}" for user in users))[:3])
    what = "what is computed of it does not reach the output" if users else "never used"
    title = f"no gradient: {_INPUTS}: {what}"
    fix = "use it, or leave it out of the arguments"
    return ("unused", not users), Finding("zero", "unused", node, title, places, fix, "unused")


def _steers(cut: Node) -> tuple[tuple, Finding]:
    cause, _ = _why_cut(cut)
    title = f"no gradient: {_INPUTS}: decides what runs, and has no other way to the output"
    fix = "let the branch, or the number of steps, be fixed, and blend smoothly what it gives"
    finding = Finding("zero", cause, cut, title, (f"{cause} at {where(cut)}",), fix, "structure")
    return ("steers", cut.source, cut.primitive), finding


def _decisive_cut(node: Node) -> Node | None:
    """Find the first operation without a derivative before what decides which branch runs, or how long a loop."""
    reached = list(walk([node], lambda n: n.outputs))
    blocked = [n for n in reached if n.status == "blocked"]
    decides = any(not n.outgoing and np.shape(n.values[0]) == () and n.avals[0].dtype.kind in "bi" for n in reached)
    return min(blocked, key=lambda n: n.index, default=None) if decides else None


def _cuts(node: Node, needed: set[Node]) -> list[Node]:
    """Find the operations at which the paths from an input to the output lose the gradient, in order."""

    def uses(place: Place) -> Iterable[tuple[Edge, list[int]]]:
        """List the edges on from a result, each with the results of its operation that lead to the output."""
        for edge in used_by(*place):
            if edge.target in needed:
                yield edge, [i for i in range(len(edge.target.avals)) if _leads_on(edge.target, i, needed)]

    def passed(edge: Edge, outputs: list[int]) -> list[Place]:
        return [Place(edge.target, i) for i in outputs if edge.live and edge.target.differentiable[i]]

    places = walk([Place(node, 0)], lambda place: [x for edge, outputs in uses(place) for x in passed(edge, outputs)])
    cuts = {
        edge.target
        for place in places
        for edge, outputs in uses(place)
        if not edge.live or len(passed(edge, outputs)) < len(outputs)
    }
    return sorted(cuts, key=lambda n: n.index)


def _leads_on(node: Node, output: int, needed: set[Node]) -> bool:
    return not node.outgoing or any(edge.target in needed for edge in used_by(node, output))


def _only_leads_to(stopped: Node, cuts: list[Node], needed: set[Node]) -> bool:
    """Whether every way on from a node to the output passes other cuts."""

    def is_other_cut(node: Node) -> bool:
        return node is not stopped and node in cuts

    def onward(node: Node) -> list[Node]:
        return [] if is_other_cut(node) else [user for user in node.outputs if user in needed]

    return all(is_other_cut(node) or onward(node) for node in walk([stopped], onward))


def _why_cut(node: Node) -> tuple[str, str]:
    """Cause and usual remedy at an operation without a derivative."""
    name = node.primitive
    cut = known(name).cut
    if name == "convert_element_type" and node.dtype == bool:
        cut = "conversion to bool", "use a soft step, as jax.nn.sigmoid(x / temperature)"
    if cut is None or (name in ("rem", "floor_divide", "div") and node.status != "blocked"):
        cut = "{label} has no derivative here", "use something smooth, or pass the gradient straight through"
    cause, remedy = cut
    return words(cause, node), remedy


def missing_rule(recording: Recording, error: MissingDerivative) -> Finding:
    """Report a backward pass that ended at an operation without a derivative."""
    reached = [
        node
        for node in recording.nodes
        if node.status == "live"
        and not any(g is not None for g in node.gradients)
        and any(edge.gradient is not None for edge in node.outgoing)
    ]
    node = max(reached, key=lambda n: n.index)
    cause = "a callback has no derivative" if node.primitive.endswith(("callback", "ffi_call")) else error.problem
    title = "no gradient: the backward pass ends at an operation without a derivative"
    return Finding("zero", cause, node, title, (f"{node.label} at {where(node)}",), error.advice, "structure")


# ---------------------------------------------------------------- a path, but zero


def _zero_here(node: Node, outputs: set[Node]) -> tuple[tuple, Finding]:
    """Key and finding of an input whose gradient is zero for these values."""
    edges = _zeroing_edges(node)
    if not edges:
        why = ("the output's own gradient is zero",)
        title = f"zero gradient: {_INPUTS}"
        return ("seed",), Finding("zero", "zero gradient", next(iter(outputs)), title, why, None, "here")
    reasons = [_why_zero(edge) for edge in edges]
    first = reasons[0]
    if all(map(_moves_on, edges)):
        finding = Finding("zero", first.cause, first.node, _INPUTS, (), None, "for now")
        return ("for now", first.node.source), finding
    distinct = {(reason.node.source, reason.cause): reason for reason in reasons}.values()
    lines = [f"{reason.cause}{reason.detail} at {where(reason.node)}" for reason in distinct]
    title = f"zero gradient: {_INPUTS}: zero for these values"
    key = tuple(dict.fromkeys((reason.node.source or reason.node, reason.cause) for reason in reasons))
    return key, Finding("zero", first.cause, first.node, title, tuple(lines[:5]), first.remedy, "here")


def _zeroing_edges(node: Node) -> list[Edge]:
    """Find the edges that bring zeros although the operation that sent them got a gradient that is not zero."""

    def zero_edges(user: Node) -> list[Edge]:
        return [edge for edge in user.outgoing if edge.live and edge.gradient is not None and is_zero(edge.gradient)]

    def got_zeros(user: Node) -> bool:
        return all(is_zero(g) for g in user.gradients if g is not None)

    silent = walk([node], lambda n: [edge.target for edge in zero_edges(n) if got_zeros(edge.target)])
    edges = [edge for n in silent for edge in zero_edges(n) if not got_zeros(edge.target)]
    return sorted(edges, key=lambda edge: edge.target.index)


_PRODUCTS = ("mul", "dot_general", "conv_general_dilated")


def _moves_on(edge: Edge) -> bool:
    """Whether an edge brings zeros only because the other factor is zero, and an input that will change makes it so.

    Weights that start at zero are like this: after the first step the gradient is there.
    """
    node = edge.target
    if node.primitive not in _PRODUCTS:
        return False
    other = node.arguments[1 - edge.argument]
    if not isinstance(other, Place) or np.any(operand(node, 1 - edge.argument)):
        return False

    def moving(edges: Iterable[Edge]) -> list[Node]:
        return [e.source for e in edges if e.live and e.gradient is not None and not is_zero(e.gradient)]

    starts = moving(e for e in node.incoming if e.argument == 1 - edge.argument)
    return any(source.primitive == "input" for source in walk(starts, lambda n: moving(n.incoming)))


class _Reason(NamedTuple):
    """Why an operation turned a gradient into zeros: the operation to blame, the cause, a detail, a remedy."""

    node: Node
    cause: str
    detail: str
    remedy: str


class _Zeros:
    """An edge that brings zeros, as the rows of the table below look at it."""

    def __init__(self, edge: Edge):
        self.edge, self.node = edge, edge.target
        self.name, self.label = self.node.primitive, self.node.label
        self.record = known(self.name)

    @cached_property
    def rectifier(self) -> Node | None:
        """The rectifier that made these zeros: the operation itself, or one whose zeros it multiplies with."""
        return _rectifier_above(self.edge) or (self.node if is_rectifier(self.node) else None)

    @cached_property
    def other(self):
        """The other operand, of an operation of two; None if it was not kept."""
        return operand(self.node, 1 - self.edge.argument)

    @property
    def is_tiny(self) -> bool:
        """Whether all of the result is too small to tell from zero."""
        value = array(self.node.values[0])
        return value is not None and bool(np.all(np.abs(value) < 1e-30))

    @property
    def is_at_zero(self) -> bool:
        """Whether all of the operand is exactly zero."""
        return is_zero(self.edge.source.values[self.edge.output])

    def extent(self) -> str:
        x = array(self.edge.source.values[self.edge.output])
        return "" if x is None or not x.size else f", operand from {x.min():.3g} to {x.max():.3g}"

    def share_below(self) -> str:
        """How many units of the rectifier are off."""
        above = _rectifier_above(self.edge)
        if above is None:
            x = array(self.edge.source.values[self.edge.output])
        else:
            x = next((x for x in map(array, above.inputs[0].values) if x is not None), None)
        return "" if x is None else f", {np.mean(x <= 0):.0%} of {x.size} units not above zero"


_SATURATE = ("sigmoid", "softmax", "log_softmax", "silu", "gelu", "softplus", "logaddexp", "logsumexp")
_COOLER = "scale its input down, or divide it by a temperature"


class _Row(NamedTuple):
    """A cause of zeros: when it holds, what to call it, a remedy, a detail. {label} is the operation's."""

    holds: Callable[[_Zeros], bool]
    cause: str
    remedy: str
    detail: Callable[[_Zeros], str] = lambda zeros: ""


_ROWS = (  # the first that holds counts
    _Row(
        lambda z: z.rectifier is not None,
        "dead ReLU",
        "lower the learning rate, initialize anew, or use a function with a slope below zero, as leaky_relu",
        _Zeros.share_below,
    ),
    _Row(
        lambda z: z.name in ("max", "min") and varies(z.node, 1 - z.edge.argument),
        "not picked",
        "check what is compared",
        lambda z: f", {z.name} takes the other argument, which is {'larger' if z.name == 'max' else 'smaller'}",
    ),
    _Row(
        lambda z: z.name in ("max", "min", "clamp") or z.label == "clip",
        "saturated clip",
        "scale what is clipped to the range, or pass the gradient straight through",
        _Zeros.extent,
    ),
    _Row(
        lambda z: z.record.saturates is not None,
        "saturated {saturates}",
        "scale its input down: normalize, or initialize with smaller weights",
        _Zeros.extent,
    ),
    _Row(lambda z: z.label.strip("_") in _SATURATE, "saturated {label}", _COOLER, _Zeros.extent),
    _Row(lambda z: is_shifted_exponential(z.node), "saturated softmax", _COOLER, _Zeros.extent),
    _Row(
        lambda z: z.name in ("reduce_prod", "cumprod") and z.is_tiny,
        "underflow in a product",
        "sum logarithms instead",
    ),
    _Row(
        lambda z: z.record.can_underflow and z.is_tiny and not z.is_at_zero,
        "underflow in {label}",
        "compute it by logarithms, or scale its operand",
        _Zeros.extent,
    ),
    _Row(lambda z: z.name == "select_n", "masked", "let the mask keep something, or blend softly"),
    _Row(
        lambda z: z.name in _PRODUCTS and z.other is not None and not np.any(z.other),
        "multiplied by zero",
        "let what it is multiplied with be something other than zero",
    ),
    _Row(lambda z: z.name in _PRODUCTS, "underflow in a product", "scale the loss, or compute in a wider type"),
    _Row(
        lambda z: z.record.has_stationary_points,
        "stationary point",
        "start elsewhere: at this point the slope is zero",
        lambda z: f", {z.label} has slope zero here",
    ),
    _Row(
        lambda z: z.record.picks,
        "not picked",
        "check the index, or the order of what is compared",
        lambda z: f", {z.label} picks other elements",
    ),
    _Row(lambda z: z.name in ("custom_jvp_call", "custom_vjp_call"), "{label} sends zero", "check its custom rule"),
    _Row(lambda z: True, "{label} sends zero", "check the values that go into it"),
)


def _why_zero(edge: Edge) -> _Reason:
    """Say why an operation turned a gradient into zeros."""
    zeros = _Zeros(edge)
    row = next(row for row in _ROWS if row.holds(zeros))
    cause = row.cause.format(label=zeros.label.strip("_"), saturates=zeros.record.saturates)
    return _Reason(zeros.rectifier or zeros.node, cause, row.detail(zeros), row.remedy)


def _rectifier_above(edge: Edge) -> Node | None:
    """Find the rectifier that made the zeros with which an edge's gradient is multiplied."""
    node = edge.target
    if node.primitive not in _PRODUCTS:
        return None
    factor = node.arguments[1 - edge.argument]
    while isinstance(factor, Place) and not np.any(array(factor.node.values[factor.output])):
        if is_rectifier(factor.node):
            return factor.node
        if factor.node.primitive not in ("reshape", "broadcast_in_dim", "transpose", "squeeze", "convert_element_type"):
            return None
        factor = factor.node.arguments[0]
    return None
