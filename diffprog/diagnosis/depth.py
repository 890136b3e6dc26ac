"""Gradients that vanish or explode on their way to the inputs, and the operation where it happens."""

from typing import NamedTuple

import numpy as np

from diffprog.diagnosis.arrays import array
from diffprog.diagnosis.finding import Finding, where
from diffprog.graph.nodes import Edge, Node
from diffprog.graph.recording import Recording
from diffprog.graph.summaries import summarize

_FACTOR = 1e6  # between the two ends of a path
_LENGTH = 6  # operations at least: a single large scale is no matter of depth


class Step(NamedTuple):
    """An operation on the path from an input to the output.

    Attributes:
      effect: length of gradient times value, elementwise: |x dL/dx|, how much the output changes, at most, per
        relative change of x. Scaling x by a constant, and the next operation by its inverse, leaves it as it is.
    """

    node: Node
    effect: float


def profile(recording: Recording) -> list[Step]:
    """The size of the gradient along the path of its largest parts from the output to the deepest input."""
    starts = [place.node for place in recording.outputs if place is not None]
    depths = _depths(recording)
    if not starts:
        return []
    node = max(starts, key=lambda n: depths[n])
    steps = [Step(node, _effect(node))]
    while True:
        edges = [edge for edge in node.incoming if edge.live and _size(edge) > 0]
        if not edges:
            return steps
        # The deepest branch tells of depth; among those of nearly its depth the one that carries most.
        deepest = max(depths[edge.source] for edge in edges)
        edge = max((e for e in edges if depths[e.source] >= deepest - 3), key=_size)
        node = edge.source
        steps.append(Step(node, _effect(node)))


def find(recording: Recording) -> list[Finding]:
    steps = [step for step in profile(recording) if step.effect > 0]
    if len(steps) < _LENGTH:
        return []
    effects = np.log10([step.effect for step in steps])
    # The largest fall or rise between two places of the path.
    falls = np.maximum.accumulate(effects) - effects
    rises = effects - np.minimum.accumulate(effects)
    found = []
    if falls.max() > np.log10(_FACTOR) and effects[-1] - effects.max() < -0.8 * np.log10(_FACTOR):
        found.append(_finding("vanishing", steps, effects, -1))
    if rises.max() > np.log10(_FACTOR) and effects[-1] - effects.min() > 0.8 * np.log10(_FACTOR):
        found.append(_finding("exploding", steps, effects, 1))
    return found


def _finding(kind, steps: list[Step], effects, sign) -> Finding:
    changes = sign * np.diff(effects)
    by_line: dict = {}  # of all operations on one line, over all iterations of a loop
    for change, step in zip(changes, steps[:-1], strict=True):
        by_line[step.node.source] = by_line.get(step.node.source, 0.0) + change
    worst = max(by_line, key=lambda line: by_line[line])
    at = max((i for i in range(len(changes)) if steps[i].node.source == worst), key=lambda i: changes[i])
    node = steps[at].node
    count = sum(step.node.source == worst and step.node.label == node.label for step in steps)
    total = f"{10 ** abs(effects[-1] - effects[0]):.0e}"
    picked = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 8)).astype(int))
    shape = "  ".join(f"{steps[i].effect:.0e}" for i in picked)
    title = f"{kind} gradient: {'smaller' if sign < 0 else 'larger'} by {total} on the way to {steps[-1].node.label}"
    breaks = f"breaks at {where(node)}" + (f" ({count} times, {10 ** by_line[worst]:.0e} in all)" if count > 1 else "")
    lines = (f"|gradient * value| from the output back: {shape}", breaks)
    return Finding(kind, f"{kind} gradient", node, title, lines, _fix(kind, node))


def _fix(kind, node):
    if kind == "exploding":
        return "normalize, initialize with smaller weights, clip the gradient, or go back through fewer iterations"
    if node.label in ("tanh", "logistic", "sigmoid", "erf", "_softmax", "softmax"):
        return f"{node.label} is flat: normalize its input, add residual connections, or use ReLU with suitable weights"
    return "add residual connections or normalization, or initialize with larger weights"


def _depths(recording) -> dict[Node, int]:
    """Longest live path from any input, in operations."""
    depths: dict[Node, int] = {}
    for node in recording.nodes:
        depths[node] = 1 + max((depths[e.source] for e in node.incoming if e.live), default=-1)
    return depths


def _effect(node: Node) -> float:
    return max(map(_together, node.gradients, node.values), default=0.0)


def _size(edge: Edge) -> float:
    return _together(edge.gradient, edge.source.values[edge.output])


def _together(gradient, value) -> float:
    if gradient is None or value is None:
        return 0.0
    x, g = array(value), array(gradient)
    if x is None or g is None:  # summaries
        return summarize(gradient).norm * summarize(value).norm
    with np.errstate(all="ignore"):
        product = np.abs(g.astype(np.complex128) * x) if np.iscomplexobj(x) else np.abs(g.astype(np.float64) * x)
        return float(np.sqrt(np.sum(product**2)))
