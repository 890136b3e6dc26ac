"""Derivatives taken exactly where they are a convention: kinks and ties."""

import numpy as np
from jax import lax

from diffprog.diagnosis.arrays import array, brackets, first, operand
from diffprog.diagnosis.finding import Finding, where
from diffprog.graph.nodes import Node, Place
from diffprog.graph.recording import Recording
from diffprog.transforms.reverse import grad


def find(recording: Recording) -> list[Finding]:
    """Operations at a kink or a tie to which a gradient arrives there, one finding per line."""
    found: dict = {}
    for node in recording.nodes:
        if node.status == "live" and node.gradients and node.gradients[0] is not None:
            hit = _kink(node)
            if hit is not None:
                found.setdefault((node.source, node.label), (node, *hit))
    return [_finding(*hit) for hit in found.values()]


def _finding(node, mask, cause, convention) -> Finding:
    count = f"{np.count_nonzero(mask)} of {mask.size} elements, first {brackets(first(mask)) or 'the only one'}"
    title = f"gradient taken exactly at a kink: {cause} at {where(node)}"
    fix = "nothing, if the convention suits; else move off the point, or use a smooth function"
    return Finding("kink", cause, node, title, (count, f"convention: {convention}"), fix)


def _kink(node: Node):
    """(which elements, what, which convention applied), None if there is none."""
    arrived, name, label = array(node.gradients[0]), node.primitive, node.label
    x = operand(node, 0) if node.arguments else None
    if arrived is None or x is None:
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
    """Which slope the rule of `abs` took: that of the JAX that is installed."""
    aval = node.avals[0]
    return float(grad(lax.abs)(aval.dtype.type(0)))


def _reduced(node, x, arrived):
    axes = node.params["axes"]
    extreme = array(node.values[0])
    wide = np.expand_dims(extreme, axes)
    ties = np.sum((x == wide) & ~_masked_before(node, 0), axis=tuple(axes))
    mask = (ties > 1) & (arrived != 0)
    return _some(mask, f"{node.primitive.split('_')[1]} with equal elements", "they share the gradient equally")


def _masked_before(node: Node, argument: int):
    """Where an operand is zero because a rectifier below cut it: there no gradient comes through in any case."""
    given = node.arguments[argument]
    shape = np.shape(operand(node, argument))
    if not isinstance(given, Place):
        return np.zeros(shape, bool)
    below = given.node
    while below.primitive in ("name", "reshape", "convert_element_type") and below.incoming:
        below = below.incoming[0].source
    if below.label != "relu" or below.primitive == "input":
        return np.zeros(shape, bool)
    under = operand(below, 0)
    return np.zeros(shape, bool) if under is None or under.size != np.prod(shape) else (under < 0).reshape(shape)
