"""Gradients that vanish or explode on their way to the inputs, and the operation where it happens."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from diffprog.diagnosis._arrays import array
from diffprog.diagnosis._finding import Finding, where
from diffprog.graph._recording.nodes import Edge, Node
from diffprog.graph._recording.recording import Recording
from diffprog.graph._recording.summaries import summarize

_DECADES = 6  # between the two ends of a path
_LENGTH = 6  # operations at least: a single large scale is no matter of depth


class Step(NamedTuple):
    """An operation on the path from the output back to an input.

    Attributes:
      effect: length of gradient times value, elementwise: |x dL/dx|, how much the output changes, at most, per
        relative change of x. Scaling x by a constant, and the next operation by its inverse, leaves it as it is.
      gradient: root mean square of the gradient itself.
    """

    node: Node
    effect: float
    gradient: float


def profile(node: Node, known: dict[Node, tuple[Edge | None, float]]) -> list[Step]:
    """Follow the path by which most of a gradient came to an input, from the output back.

    Args:
      node: the input.
      known: per node the edge that brings most, and how much; it is filled in.

    Returns:
      The operations on the path, with the size of the gradient at each.
    """
    steps = []
    while True:
        if node not in known:
            sizes = [(edge, _size(edge)) for edge in node.outgoing if edge.live and edge.gradient is not None]
            known[node] = max(sizes, key=lambda pair: pair[1], default=(None, _effect(node)))
        edge, effect = known[node]
        if edge is None:
            steps.append(Step(node, effect, _mean_size(node.gradients[0])))
            return steps[::-1]
        steps.append(Step(node, effect, _mean_size(edge.gradient)))
        node = edge.target


def find(recording: Recording) -> list[Finding]:
    """Find inputs whose gradient vanished or exploded step by step; at most one finding of each kind."""
    known: dict = {}
    vanishing, exploding = [], []
    for node in recording.inputs:
        if not node.gradients or node.gradients[0] is None:
            continue
        steps = [step for step in profile(node, known) if step.effect > 0 and step.gradient > 0]
        if len(steps) < _LENGTH or steps[-1].node is not node:
            continue
        effects = np.log10([step.effect for step in steps])
        gradients = np.log10([step.gradient for step in steps])
        if _is_matter_of_depth(effects, gradients, -1):
            vanishing.append((effects.max() - effects[-1], steps))
        elif _is_matter_of_depth(effects, gradients, 1):
            exploding.append((effects[-1] - effects.min(), steps))
    kinds = [("vanishing", vanishing, -1), ("exploding", exploding, 1)]
    return [_finding(kind, paths, sign) for kind, paths, sign in kinds if paths]


def _is_matter_of_depth(effects, gradients, sign) -> bool:
    """Whether the effects fall (-1) or rise (1) far, and they or the gradients do so step by step.

    A single step is a scale, or a cancellation. Values that vanish with the gradients make a single step of effects.
    """
    start = np.argmax(-sign * effects)
    effects, gradients = sign * effects[start:], sign * gradients[start:]
    return effects[-1] - effects[0] > _DECADES and (_is_gradual(effects) or _is_gradual(gradients))


def _is_gradual(logarithms) -> bool:
    changes = np.diff(logarithms)
    return changes.sum() - changes.max(initial=0) > _DECADES / 2


def _finding(kind: str, paths: list[tuple[float, list[Step]]], sign: int) -> Finding:
    decades, steps = max(paths, key=lambda pair: (round(pair[0], 3), len(pair[1])))
    changes = sign * np.diff(np.log10([step.gradient for step in steps]))
    by_line: dict = defaultdict(float)  # of all operations on one line, over all iterations of a loop
    by_label: dict = defaultdict(float)  # of all operations of one kind on one line
    for change, step in zip(changes, steps[:-1], strict=True):
        by_line[step.node.source] += change
        by_label[step.node.source, step.node.label] += change
    worst = max(by_line, key=by_line.__getitem__)
    place = max((i for i in range(len(changes)) if steps[i].node.source == worst), key=changes.__getitem__)
    node = steps[place].node
    repeats = sum(step.node.source == worst and step.node.label == node.label for step in steps)
    shown = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 8)).astype(int))
    sizes = "  ".join(f"{steps[i].gradient:.0e}" for i in shown)
    names = steps[-1].node.label + (f" (and {len(paths) - 1} more inputs)" if len(paths) > 1 else "")
    compared = f"{'smaller' if sign < 0 else 'larger'} by {10**decades:.0e}, relative to the values,"
    title = f"{kind} gradient: {compared} on the way to {names}"
    breaks = f"breaks at {where(node)}"
    if repeats > 1:
        breaks += f" ({repeats} times, {10 ** by_line[worst]:.0e} in all)"
    labels = {label for (line, label), change in by_label.items() if line == worst and change > by_line[worst] / 4}
    lines = (f"|gradient| from the output back: {sizes}", breaks)
    return Finding(kind, f"{kind} gradient", node, title, lines, _fix(kind, labels))


def _fix(kind, labels: set[str]) -> str:
    """Say what to do about the operations on a line that shrink or grow a gradient."""
    if kind == "exploding":
        return "normalize, initialize with smaller weights, clip the gradient, or go back through fewer iterations"
    flat = labels & {"tanh", "logistic", "sigmoid", "erf", "_softmax", "softmax"}
    if flat:
        return f"{min(flat)} is flat: normalize its input, add residual connections, or use ReLU with suitable weights"
    return "add residual connections or normalization, or initialize with larger weights"


def _effect(node: Node) -> float:
    return max(map(_together, node.gradients, node.values), default=0.0)


def _mean_size(gradient) -> float:
    """Root mean square."""
    g = array(gradient)
    if g is None:  # a summary, or nothing
        summary = summarize(gradient)
        return 0.0 if summary is None else summary.norm / max(summary.size, 1) ** 0.5
    with np.errstate(all="ignore"):
        return float(np.sqrt(np.mean(np.abs(g.astype(np.complex128)) ** 2))) if g.size else 0.0


def _size(edge: Edge) -> float:
    return _together(edge.gradient, edge.source.values[edge.output])


def _together(gradient, value) -> float:
    """Length of gradient times value, elementwise; of summaries, a bound."""
    x, g = array(value), array(gradient)
    if x is None or g is None:
        value, gradient = summarize(value), summarize(gradient)
        return 0.0 if value is None or gradient is None else gradient.norm * value.norm
    with np.errstate(all="ignore"):
        product = np.abs(g.astype(np.complex128) * x) if np.iscomplexobj(x) else np.abs(g.astype(np.float64) * x)
        return float(np.sqrt(np.sum(product**2)))
