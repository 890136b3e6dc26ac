"""NaN and infinity: the first operation that made one from finite numbers, in the forward or the backward pass."""

from dataclasses import replace

import numpy as np

from diffprog.diagnosis import _remedies as remedies
from diffprog.diagnosis._arrays import array, at, brackets, first, flaw, number, operand, used_by, varies
from diffprog.diagnosis._causes import backward_cause, differentiated, forward_cause
from diffprog.diagnosis._finding import Finding, where
from diffprog.graph._recording.nodes import Edge, Node, Place
from diffprog.graph._recording.recording import Recording


def find(recording: Recording) -> list[Finding]:
    """The births of what is not finite in the output, or in the gradient of an input; the first comes first."""
    outputs = [place for place in recording.outputs if place is not None and flaw(place.node.values[place.output])]
    inputs = [node for node in recording.inputs if any(map(flaw, node.gradients))]
    gradients = _of_inputs(recording, inputs) if inputs else ""
    forward = _forward_births(outputs)
    if forward:
        spoiled = "the output" + (f" and {gradients}" if gradients else "")
        return _once_per_line([_forward(node, spoiled) for node in forward])
    backward = _backward_births(inputs)
    if not backward and inputs:  # summaries do not show more
        return [Finding("nan", "unknown", node, f"the gradient of {where(node)} is not finite") for node in inputs]
    return _once_per_line([_backward(edge, gradients) for edge in backward])


def _once_per_line(findings: list[Finding]) -> list[Finding]:
    """Of what was born by the same operation on the same line, as in the iterations of a loop, the first alone."""
    shared: dict[tuple, list[Finding]] = {}
    for finding in findings:
        node = finding.node
        shared.setdefault((node.source or node, node.primitive), []).append(finding)
    found = []
    for first_one, *others in shared.values():
        again = len({other.node for other in others} - {first_one.node})
        more = (f"and {again} more times on this line",) if again else ()
        found.append(replace(first_one, details=(*first_one.details, *more)))
    return found


def _of_inputs(recording, inputs) -> str:
    every = [node for node in recording.inputs if node.differentiable[0]]
    named = ", ".join(node.label for node in inputs[:3]) + (", ..." if len(inputs) > 3 else "")
    index = ""
    if len(inputs) == 1 and (gradient := array(inputs[0].gradients[0])) is not None:
        index = brackets(first(~np.isfinite(gradient)))
    return f"the gradient of {named}{index} ({len(inputs)} of {len(every)} inputs)"


# ---------------------------------------------------------------- forward


def _forward_births(places: list[Place]) -> list[Node]:
    """The nodes that made what is not finite out of what is; for a NaN made of infinities, who made these."""
    births, seen, waiting = [], set(), list(places)
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        node, value = place.node, place.node.values[place.output]
        earlier = _guilty(node, value)
        if earlier:
            waiting += earlier
        elif node not in births:
            births.append(node)
    return sorted(births, key=lambda node: node.index)


def _guilty(node: Node, value) -> list[Place]:
    """The arguments of a node from which its NaN or infinity came."""
    places = [x for x in node.arguments if isinstance(x, Place)]
    spoiled = [place for place in places if _met(node, value, place)]
    if flaw(value).nan:
        with_nan = [place for place in spoiled if flaw(place.node.values[place.output]).nan]
        # An infinity that somebody wrote down, as in a mask, is no mistake; what made a NaN of it is.
        return with_nan or [place for place in spoiled if _made_of_finite(place)]
    return spoiled


def _met(node, value, place) -> bool:
    """Whether an argument is not finite where the result isn't, as far as that can be told."""
    given, result = array(place.node.values[place.output]), array(value)
    if not flaw(place.node.values[place.output]):
        return False
    if given is None or result is None or given.shape != result.shape or node.primitive in _MIXES:
        return True
    return bool(np.any(~np.isfinite(given) & ~np.isfinite(result)))


# Operations whose result has elements that depend on other elements than their own.
_MIXES = {"cholesky", "custom_jvp_call", "custom_vjp_call", "dot_general", "eigh", "fft", "gather", "rev", "sort"}
_MIXES |= {"transpose", "triangular_solve", "custom_linear_solve", "lu", "qr", "svd", "cumsum"}
_MIXES |= {"cumlogsumexp", "cummax", "cummin", "cumprod"}


def _made_of_finite(place: Place) -> bool:
    """Whether an infinity was computed rather than written down."""
    node = place.node
    if node.primitive in ("input", "constant"):
        return node.primitive == "input"
    sources = [x for x in node.arguments if isinstance(x, Place)]
    written = any(flaw(x) for x in node.arguments if not isinstance(x, Place))
    spoiled = [x for x in sources if flaw(x.node.values[x.output])]
    if spoiled:
        return any(map(_made_of_finite, spoiled))
    return not written and node.status != "constant"


def _forward(node: Node, spoiled: str) -> Finding:
    result = next(x for x in map(array, node.values) if x is not None) if any(map(flaw, node.values)) else None
    result = next((x for x in map(array, node.values) if x is not None and not np.all(np.isfinite(x))), result)
    if node.primitive in ("input", "constant"):
        index = brackets(first(~np.isfinite(result))) if result is not None else ""
        what = "input" if node.primitive == "input" else "constant"
        return Finding(
            "nan",
            f"{what} not finite",
            node,
            f"the {what} {node.label}{index} is not finite: it spoils {spoiled}",
            fix="look at where it comes from",
        )
    index = first(~np.isfinite(result)) if result is not None else None
    kind = "NaN" if result is None or np.isnan(result[index]) else "infinity"
    title = f"{kind} in the forward pass: it spoils {spoiled}"
    cause, element = _forward_words(node)
    mended = differentiated(node)
    fix = remedies.forward(node, cause) if mended is None else remedies.of_slope(mended, False)
    return Finding("nan", cause, node, title, (f"born at {where(node)}", *element), fix)


def _forward_words(node: Node) -> tuple[str, list[str]]:
    """(cause, lines about the element) of an operation whose result is not finite."""
    results = [x for x in map(array, node.values) if x is not None and not np.all(np.isfinite(x))]
    index = first(~np.isfinite(results[0])) if results else None
    cause, details = forward_cause(node, index)
    return cause, _element(node, index, details)


def _element(node, index, details) -> list[str]:
    if index is None:
        return list(details)
    given = []
    for i, edge_or_literal in enumerate(node.arguments):
        x = at(operand(node, i), index) if node.primitive not in _MIXES else None
        if x is not None:
            label = edge_or_literal.node.label if isinstance(edge_or_literal, Place) else "a number"
            given.append(f"{label} = {number(x)}")
    applied = f"{node.label}{brackets(index)}" + (f" of {', '.join(given)}" if given else "")
    return [applied, *details]


# ---------------------------------------------------------------- backward


def _backward_births(inputs: list[Node]) -> list[Edge]:
    """The edges that are not finite although the gradient at the operation that sent them is."""
    births, seen, waiting = [], set(), [(node, 0) for node in inputs]
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        spoiled = [edge for edge in used_by(*place) if flaw(edge.gradient)]
        for edge in spoiled:
            later = [i for i, g in enumerate(edge.target.gradients) if flaw(g)]
            if later and not _starts_anew(edge):
                waiting += [(edge.target, i) for i in later]
            elif edge not in births:
                births.append(edge)
    return sorted(births, key=lambda edge: -edge.target.index)


def _starts_anew(edge: Edge) -> bool:
    """Whether none of the elements that are not finite came from such an element of the operation's own gradient."""
    sent = array(edge.gradient)
    for arrived in map(array, edge.target.gradients):
        if arrived is None or sent is None or arrived.shape != sent.shape or edge.target.primitive in _MIXES:
            return False
        if np.any(~np.isfinite(arrived) & ~np.isfinite(sent)):
            return False
    return True


def _backward(edge: Edge, spoiled: str) -> Finding:
    node = edge.target
    sent = array(edge.gradient)
    index = first(~np.isfinite(sent)) if sent is not None else None
    above = _index_of_result(edge, index)
    arrived = at(array(node.gradients[0]), above) if above is not None and node.single else None
    kind = "NaN" if sent is None or np.isnan(sent[index]) else "infinity"
    title = f"{kind} in the backward pass: it spoils {spoiled}"
    mask = mask_behind(node, above) if arrived is not None and arrived == 0 else None
    comes = f"gradient that arrives: {number(arrived)}" if arrived is not None else ""
    comes += f" (masked by {where(mask)})" if mask else ""
    behind = " behind a mask" if mask is not None else ""
    origin = _infinite_factor(node)
    if origin is not None:  # finite slopes of an infinity that was made before, in the forward pass
        cause, element = _forward_words(origin)
        lines = [f"born at {where(origin)}", *element, f"in the backward pass it is a factor at {where(node)}"]
        fix = remedies.of_slope(origin, mask is not None)
        return Finding("nan", cause + behind, origin, title, tuple([*lines, comes] if comes else lines), fix)
    cause, details = backward_cause(edge, above)
    lines = [f"born at {where(node)}"]
    if index is not None:
        lines.append(f"{edge.source.label}{brackets(index)} = {number(array(edge.source.values[edge.output])[index])}")
    lines += [comes, *details] if comes else details
    return Finding("nan", cause + behind, node, title, tuple(lines), remedies.backward(edge, mask))


def _infinite_factor(node: Node) -> Node | None:
    """The operation that made an operand of this one infinite; None if all are finite, or somebody wrote it down."""
    spoiled = [x for x in node.arguments if isinstance(x, Place) and flaw(x.node.values[x.output])]
    births = [birth for birth in _forward_births(spoiled) if birth.primitive not in ("input", "constant")]
    return births[0] if births else None


def _index_of_result(edge: Edge, index):
    """An index into a node's result for one into an argument, which may have been stretched to the result's shape."""
    node = edge.target
    if index is None or not node.single or edge.gradient.shape == node.avals[0].shape:
        return index
    shape = node.avals[0].shape
    if len(shape) != len(index):
        return index
    here = np.ones(shape, bool)
    for axis, (i, n) in enumerate(zip(index, edge.gradient.shape, strict=True)):
        if n != 1:
            here &= np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))]) == i
    given = [operand(node, i) for i in range(len(node.arguments))]
    given = [np.broadcast_to(x, shape) for x in given if x is not None and np.ndim(x) in (0, len(shape))]
    for suspicious in (lambda x: ~np.isfinite(x), lambda x: x == 0):
        hits = here & np.any([suspicious(x) for x in given], axis=0) if given else here
        if hits.any():
            return first(hits)
    return first(here)


def mask_behind(node: Node, index) -> Node | None:
    """The select, or product with zero, that made the gradient of an element of this node's result zero."""
    seen, waiting = set(), [node]
    while waiting:
        here = waiting.pop(0)
        if here in seen:
            continue
        seen.add(here)
        for edge in here.outgoing:
            if not edge.live:
                continue
            part = at(array(edge.gradient), index) if index is not None else None
            if part is not None and part != 0:
                continue
            if _masks(edge, index):
                return edge.target
            waiting.append(edge.target)
    return None


def _masks(edge: Edge, index) -> bool:
    """Whether an operation lets some elements through and not others; a product does if it is with a constant zero."""
    if edge.target.primitive == "mul":
        other = 1 - edge.argument
        return not varies(edge.target, other) and index is not None and at(operand(edge.target, other), index) == 0
    return edge.target.primitive in ("select_n", "dynamic_slice", "gather", "slice", "clamp", "max", "min")
