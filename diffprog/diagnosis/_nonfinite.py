"""NaN and infinity: the first operation that made one from finite numbers, in the forward or the backward pass."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import numpy as np

from diffprog._util.walk import walk
from diffprog.diagnosis import _remedies as remedies
from diffprog.diagnosis._arrays import (
    array,
    brackets,
    element,
    first_index,
    flaw,
    number_text,
    operand,
    used_by,
    varies,
)
from diffprog.diagnosis._causes import Cause, backward_cause, differentiated, forward_cause
from diffprog.diagnosis._finding import Finding, where
from diffprog.diagnosis._positions import axes_in_result, broadcasts
from diffprog.diagnosis._primitives import known
from diffprog.graph._recording.nodes import Edge, Node, Place
from diffprog.graph._recording.recording import Recording

Index = tuple[int, ...]


def find(recording: Recording) -> list[Finding]:
    """Find where NaN and infinities of the output, or of the inputs' gradients, were born; the first comes first."""
    outputs = [place for place in recording.outputs if place is not None and flaw(_value(place))]
    inputs = [node for node in recording.inputs if any(map(flaw, node.gradients))]
    gradients = _gradients_of(recording, inputs) if inputs else ""
    forward = _forward_births(outputs)
    if forward:
        spoiled = "the output" + (f" and {gradients}" if gradients else "")
        return _once_per_line([_forward(node, spoiled) for node in forward])
    backward = _backward_births(inputs)
    if not backward and inputs:  # summaries do not show more
        return [Finding("nan", "unknown", node, f"the gradient of {where(node)} is not finite") for node in inputs]
    return _once_per_line([_backward(edge, gradients) for edge in backward])


def _once_per_line(findings: list[Finding]) -> list[Finding]:
    """Keep the first of the findings about the same operation on the same line, as in the iterations of a loop."""
    by_line: dict[tuple, list[Finding]] = {}
    for finding in findings:
        by_line.setdefault((finding.node.source or finding.node, finding.node.primitive), []).append(finding)
    firsts = []
    for first, *others in by_line.values():
        repeated = len({other.node for other in others} - {first.node})
        more = (f"and {repeated} more times on this line",) if repeated else ()
        firsts.append(replace(first, details=(*first.details, *more)))
    return firsts


def _gradients_of(recording: Recording, inputs: list[Node]) -> str:
    """Name the gradients of some inputs."""
    differentiable = [node for node in recording.inputs if node.differentiable[0]]
    names = ", ".join(node.label for node in inputs[:3]) + (", ..." if len(inputs) > 3 else "")
    index = ""
    if len(inputs) == 1 and (gradient := array(inputs[0].gradients[0])) is not None:
        index = brackets(first_index(~np.isfinite(gradient)))
    return f"the gradient of {names}{index} ({len(inputs)} of {len(differentiable)} inputs)"


def _value(place: Place):
    return place.node.values[place.output]


# ---------------------------------------------------------------- forward


def _forward_births(places: Iterable[Place]) -> list[Node]:
    """Find the nodes that made what is not finite from what is; for a NaN made of infinities, who made these."""
    guilty = cache(_guilty)
    births = {place.node for place in walk(places, guilty) if not guilty(place)}
    return sorted(births, key=lambda node: node.index)


def _guilty(result: Place) -> list[Place]:
    """Find the operands from which the NaN or infinity of a result came."""
    spoiled = [x for x in result.node.arguments if isinstance(x, Place) and _passes_on(x, result)]
    if flaw(_value(result)).nan:
        with_nan = [place for place in spoiled if flaw(_value(place)).nan]
        # An infinity that somebody wrote down, as in a mask, is no mistake; what made a NaN of it is.
        return with_nan or [place for place in spoiled if _was_computed(place)]
    return spoiled


def _passes_on(place: Place, result: Place) -> bool:
    """Whether an operand is not finite in a position where the result isn't, as far as that can be told."""
    if not flaw(_value(place)):
        return False
    before, after = array(_value(place)), array(_value(result))
    if before is None or after is None or before.shape != after.shape or known(result.node.primitive).mixes:
        return True
    return bool(np.any(~np.isfinite(before) & ~np.isfinite(after)))


def _was_computed(place: Place) -> bool:
    """Whether an infinity was computed rather than written down."""
    node = place.node
    if node.primitive in ("input", "constant"):
        return node.primitive == "input"
    spoiled = [x for x in node.arguments if isinstance(x, Place) and flaw(_value(x))]
    if spoiled:
        return any(map(_was_computed, spoiled))
    return node.status != "constant" and not any(flaw(x) for x in node.arguments if not isinstance(x, Place))


def _forward(node: Node, spoiled: str) -> Finding:
    index, value = _first_flaw(node)
    if node.primitive in ("input", "constant"):
        title = f"the {node.primitive} {node.label}{brackets(index)} is not finite: it spoils {spoiled}"
        return Finding("nan", f"{node.primitive} not finite", node, title, fix="look at where it comes from")
    kind = "NaN" if value is None or np.isnan(value) else "infinity"
    title = f"{kind} in the forward pass: it spoils {spoiled}"
    cause = forward_cause(node, index)
    original = differentiated(node)
    fix = remedies.of_result(node, cause) if original is None else remedies.of_slope(original, False)
    return Finding("nan", cause.text, node, title, (f"born at {where(node)}", *_application(node, index, cause)), fix)


def _first_flaw(node: Node) -> tuple[Index | None, complex | None]:
    """Index and value of the first element of a node's results that is not finite; None where it is not known."""
    for result in map(array, node.values):
        if result is not None and not np.all(np.isfinite(result)):
            index = first_index(~np.isfinite(result))
            return index, result[index]
    return None, None


def _application(node: Node, index: Index | None, cause: Cause) -> list[str]:
    """Lines that show an element of an operation with its operands."""
    if index is None:
        return list(cause.details)
    operands = []
    for i, argument in enumerate(node.arguments):
        x = None if known(node.primitive).mixes else element(operand(node, i), index)
        if x is not None:
            label = argument.node.label if isinstance(argument, Place) else "a number"
            operands.append(f"{label} = {number_text(x)}")
    applied = f"{node.label}{brackets(index)}" + (f" of {', '.join(operands)}" if operands else "")
    return [applied, *cause.details]


# ---------------------------------------------------------------- backward


def _backward_births(inputs: list[Node]) -> list[Edge]:
    """Find the edges that are not finite although the gradient at the operation that sent them is."""
    later = cache(_later)
    spoiled = cache(lambda place: [edge for edge in used_by(*place) if flaw(edge.gradient)])
    starts = [Place(node, 0) for node in inputs]
    places = walk(starts, lambda place: [x for edge in spoiled(place) for x in later(edge)])
    births = [edge for place in places for edge in spoiled(place) if not later(edge)]
    return sorted(births, key=lambda edge: (edge.target.index, edge.argument), reverse=True)


def _later(edge: Edge) -> list[Place]:
    """Find the results of an edge's operation whose gradients spoiled the edge's."""
    later = [Place(edge.target, i) for i, gradient in enumerate(edge.target.gradients) if flaw(gradient)]
    return [] if _starts_anew(edge) else later


def _starts_anew(edge: Edge) -> bool:
    """Whether none of the elements that are not finite came from such an element of the operation's own gradient."""
    sent = array(edge.gradient)
    for arrived in map(array, edge.target.gradients):
        if arrived is None or sent is None or arrived.shape != sent.shape or known(edge.target.primitive).mixes:
            return False
        if np.any(~np.isfinite(arrived) & ~np.isfinite(sent)):
            return False
    return True


def _backward(edge: Edge, spoiled: str) -> Finding:
    node = edge.target
    sent = array(edge.gradient)
    index = first_index(~np.isfinite(sent)) if sent is not None else None
    result_index = _index_of_result(edge, index)
    arrived = element(array(node.gradients[0]), result_index) if node.single else None
    mask = mask_behind(node, result_index) if arrived is not None and arrived == 0 else None
    behind_mask = " behind a mask" if mask is not None else ""
    kind = "NaN" if sent is None or np.isnan(sent[index]) else "infinity"
    title = f"{kind} in the backward pass: it spoils {spoiled}"
    arrival = [] if arrived is None else [f"gradient that arrives: {number_text(arrived)}"]
    if mask is not None:
        arrival[0] += f" (masked by {where(mask)})"
    origin = _infinite_factor(node)
    if origin is not None:  # finite slopes of an infinity that was made before, in the forward pass
        origin_index, _ = _first_flaw(origin)
        cause = forward_cause(origin, origin_index)
        lines = [f"born at {where(origin)}", *_application(origin, origin_index, cause)]
        lines += [f"in the backward pass it is a factor at {where(node)}", *arrival]
        fix = remedies.of_slope(origin, mask is not None)
        return Finding("nan", cause.text + behind_mask, origin, title, tuple(lines), fix)
    cause = backward_cause(edge, result_index)
    lines = [f"born at {where(node)}"]
    if index is not None:
        value = array(edge.source.values[edge.output])[index]
        lines.append(f"{edge.source.label}{brackets(index)} = {number_text(value)}")
    fix = remedies.of_slope(node, mask is not None)
    return Finding("nan", cause.text + behind_mask, node, title, (*lines, *arrival, *cause.details), fix)


def _infinite_factor(node: Node) -> Node | None:
    """Find the operation that made an operand infinite; None if all are finite or infinity was written down."""
    spoiled = [x for x in node.arguments if isinstance(x, Place) and flaw(_value(x))]
    births = [birth for birth in _forward_births(spoiled) if birth.primitive not in ("input", "constant")]
    return births[0] if births else None


def _index_of_result(edge: Edge, index: Index | None) -> Index | None:
    """Turn an index into an operand into one into the node's result; of several, to one where a number is special."""
    node = edge.target
    axes = axes_in_result(edge) if index is not None and node.single else None
    if index is None or axes is None:
        return None
    shape = node.avals[0].shape
    reached = np.ones(shape, bool)
    for axis, i, size in zip(axes, index, edge.gradient.shape, strict=True):
        if axis is not None and size == shape[axis]:
            reached &= np.arange(size).reshape([-1 if a == axis else 1 for a in range(len(shape))]) == i
    operands = [operand(node, i) for i in range(len(node.arguments))]
    aligned = [np.broadcast_to(x, shape) for x in operands if x is not None and broadcasts(x.shape, shape)]
    arrived = array(node.gradients[0])
    masks = [np.any([is_special(x) for x in aligned], axis=0) for is_special in (_not_finite, _zero) if aligned]
    masks += [arrived == 0] if arrived is not None else []
    hits = [reached & mask for mask in (*masks, True)]
    return next((first_index(hit) for hit in hits if hit.any()), None)


def _not_finite(x):
    return ~np.isfinite(x)


def _zero(x):
    return x == 0


def mask_behind(node: Node, index: Index | None) -> Node | None:
    """Find the nearest select, or product with zero, that made the gradient of an element of a result zero."""

    def silent_edges(user: Node) -> list[Edge]:
        edges = [edge for edge in user.outgoing if edge.live]
        return [edge for edge in edges if element(array(edge.gradient), index) in (None, 0)]

    for user in walk([node], lambda n: [edge.target for edge in silent_edges(n)], nearest_first=True):
        for edge in silent_edges(user):
            if _masks(edge, index):
                return edge.target
    return None


def _masks(edge: Edge, index: Index | None) -> bool:
    """Whether an operation lets some elements through and not others; a product does if it is with a constant zero."""
    if edge.target.primitive == "mul":
        other = 1 - edge.argument
        return not varies(edge.target, other) and element(operand(edge.target, other), index) == 0
    return edge.target.primitive in ("select_n", "dynamic_slice", "gather", "slice", "clamp", "max", "min")
