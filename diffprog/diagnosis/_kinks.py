"""Derivatives taken exactly where they are a convention: kinks and ties."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from diffprog._tracer.backward import backward
from diffprog._transforms.reverse import grad
from diffprog.diagnosis._arrays import array, brackets, first_index, is_zero, operand, varies
from diffprog.diagnosis._finding import Finding, where
from diffprog.diagnosis._remedies import calls
from diffprog.graph._recording.nodes import Node, Place
from diffprog.graph._recording.recording import Recording


def find(recording: Recording) -> list[Finding]:
    """Find operations at a kink or a tie to which a gradient arrives there, one finding per line."""
    hits: dict = {}
    again = _differentiated_lines(recording)
    for node in recording.nodes:
        key = node.source, node.label
        if node.status != "live" or key in hits or not node.gradients:
            continue
        arrived = array(node.gradients[0])
        if arrived is not None:
            hit = _kink(node, arrived)
            if hit is not None and not _is_harmless(recording, node, hit[0], arrived):
                hits[key] = node, *hit
        elif node.source in again and "backward" not in node.path and node.values[0] is not None:
            hit = _kink(node, np.ones(node.avals[0].shape))
            if hit is not None:
                hits[key] = node, *hit
    return [_finding(*hit) for hit in hits.values()]


def _differentiated_lines(recording: Recording) -> set:
    """List the lines whose slope is itself part of the output, as at second order."""
    reverse = (node for node in recording.nodes if "backward" in node.path.split("/"))
    return {node.source for node in reverse if any(g is not None and not is_zero(g) for g in node.gradients)}


def _is_harmless(recording: Recording, node: Node, mask, arrived) -> bool:
    """Whether the convention makes no difference to any input: as where both arguments that tie have the same slope."""
    if node.primitive in ("reduce_max", "reduce_min"):
        return False
    part = np.where(mask, arrived, 0)
    whole = _to_inputs(recording, [(node.incoming[0], part)])
    difference = _to_inputs(recording, [(edge, -part if i else part) for i, edge in enumerate(node.incoming)])
    return difference <= 1e-6 * whole


def _to_inputs(recording: Recording, cotangents) -> float:
    """Return the largest element that cotangents at the sources of some edges send to any input."""
    seeds = []
    for edge, cotangent in cotangents:
        aval = edge.source.avals[edge.output]
        place = recording._on_tape(Place(edge.source, edge.output))
        if place is not None and aval.shape == cotangent.shape:
            seeds.append((place, jnp.asarray(cotangent, aval.dtype)))
    inputs = [recording._on_tape(Place(node, 0)) for node in recording.inputs]
    sent = backward(seeds, [place[0] for place in inputs if place is not None])
    return max((float(np.max(np.abs(array(g)), initial=0)) for g in sent if g is not None), default=0.0)


def _finding(node, mask, cause, convention) -> Finding:
    count = f"{np.count_nonzero(mask)} of {mask.size} elements, first {brackets(first_index(mask)) or 'the only one'}"
    title = f"gradient taken exactly at a kink: {cause} at {where(node)}"
    fix = "nothing, if the convention suits; else move off the point, or use a smooth function"
    return Finding("kink", cause, node, title, (count, f"convention: {convention}"), fix)


def _kink(node: Node, arrived):
    """Find a node's kink: (which elements, what it is, which convention applied); None if there is none."""
    name, label = node.primitive, node.label
    x = operand(node, 0) if node.arguments else None
    if x is None:
        return None
    if label == "relu" and x.shape == arrived.shape:
        return _some((x == 0) & (arrived != 0) & ~_masked_before(node, 0), "relu at 0", "slope 0 at 0")
    if name == "abs" and x.dtype.kind == "f":
        return _some((x == 0) & (arrived != 0), "abs at 0", f"slope {_slope_at_zero(node):g} at 0")
    if name in ("max", "min"):
        y = operand(node, 1)
        if y is None or not any(node.incoming):
            return None
        tie = (x == y) & (arrived != 0) & np.isfinite(x)
        if not (varies(node, 0) and varies(node, 1)) and calls(node, "clip"):
            return _some(tie, "clip at its bound", "slope one half at the bounds")
        return _some(tie, f"{name} of equal arguments", "each gets one half")
    if name in ("reduce_max", "reduce_min"):
        return _reduced(node, x, arrived)
    if name == "clamp":
        low, x, high = (operand(node, i) for i in range(3))
        if low is None or x is None or high is None:
            return None
        return _some(((x == low) | (x == high)) & (arrived != 0), "clip at its bound", "slope 0 at the bounds")
    return None


def _some(mask, cause, convention):
    return (mask, cause, convention) if np.any(mask) else None


def _slope_at_zero(node) -> float:
    """Return the slope of `abs` at zero; it depends on the installed JAX."""
    return float(grad(lax.abs)(node.avals[0].dtype.type(0)))


def _reduced(node: Node, x, arrived):
    axes = tuple(node.params["axes"])
    is_extreme = x == np.expand_dims(array(node.values[0]), axes)
    ties = np.sum(is_extreme & ~_masked_before(node, 0), axis=axes)
    cause = f"{node.primitive.split('_')[1]} with equal elements"
    return _some((ties > 1) & (arrived != 0), cause, "they share the gradient equally")


def _masked_before(node: Node, argument: int):
    """Mark elements of an operand that a rectifier before made zero: no gradient comes through there in any case."""
    place = node.arguments[argument]
    shape = np.shape(operand(node, argument))
    if not isinstance(place, Place):
        return np.zeros(shape, bool)
    below = place.node
    while below.primitive in ("name", "reshape", "convert_element_type") and below.incoming:
        below = below.incoming[0].source
    if below.label != "relu" or below.primitive == "input":
        return np.zeros(shape, bool)
    under = operand(below, 0)
    return np.zeros(shape, bool) if under is None or under.size != np.prod(shape) else (under < 0).reshape(shape)
