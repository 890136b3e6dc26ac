"""A score as the sum of its parts at every depth: what comes through a layer, and what later layers add themselves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffprog.attribute._core.scores import explain
from diffprog.attribute._inside.credits import value_of
from diffprog.graph import Node, Place, record
from diffprog.models import Model

VALUES, BIASES, REST = "values of the layer", "biases behind it", "curvature behind it"
KINDS = {  # what an operation adds that its arguments' values times their gradients do not say
    "add": BIASES,
    "sub": BIASES,
    "add_any": BIASES,
    "clamp": "saturated units behind it",
    "max": "saturated units behind it",
    "min": "saturated units behind it",
}
LEAST = 1e-6  # of the score, a part that is drawn


@dataclass(frozen=True)
class ScoreByDepth:
    """A score, taken apart at several depths.

    Attributes:
      layers: names of the depths, from the input to the output.
      parts: from name to an array (layers,): the value of the layer times its gradient, summed; and what operations
        behind it add that is not in the values of their arguments: biases, saturated units (a unit cut at 6 gives 6
        times its gradient, whatever its input), and what else is not linear.
      score: the score itself.
      gap: (layers,), the score minus the sum of the parts: rounding, where each layer is all that later ones read.
    """

    layers: tuple[str, ...]
    parts: dict[str, np.ndarray]
    score: float
    gap: np.ndarray


def score_by_depth(
    model: Callable[..., Any], example: Any, score: Any = None, *, at: Sequence[str] | None = None
) -> ScoreByDepth:
    """Take the score of one example apart at every depth of a network.

    For every operation, its result times the gradient there, less its arguments times theirs, is what it adds itself:
    nothing where it is linear. So the score is, at any depth, the value of the layer times its gradient plus what all
    later operations add. The total is the same at every depth, and each part is computed for itself.

    Args:
      model: a `Model`, or a function whose layers are named by `dp.tap`.
      example: one input, without the axis of examples.
      score: what is explained, see `diffprog.attribute`: one number.
      at: names of layers, in their order, each of which is all that later ones read; by default the blocks of a
        `Model` and its input.

    Returns:
      A `ScoreByDepth`.

    Raises:
      ValueError: a layer is unknown.
    """
    inputs = np.asarray(example)[None]
    explained = explain(model, score, 1)
    recording = record(lambda inputs: explained.function(inputs, explained.classes)[0])(inputs).backward()
    total = float(np.asarray(value_of(recording.output)))
    names = tuple(at) if at is not None else _depths(model)
    own = [(node.index, KINDS.get(node.primitive, REST), _own(node)) for node in recording.nodes]
    parts: dict[str, np.ndarray] = {VALUES: np.zeros(len(names))}
    for kind in (BIASES, KINDS["clamp"], REST):
        parts[kind] = np.zeros(len(names))
    for column, name in enumerate(names):
        node = recording.nodes[0] if name == "input" else recording[name]
        parts[VALUES][column] = sum(
            _through(value, slope) for value, slope in zip(node.values, node.gradients, strict=True)
        )
        for index, kind, added in own:
            if index > node.index:
                parts[kind][column] += added
    gap = total - np.sum(list(parts.values()), axis=0)
    shown = {name: values for name, values in parts.items() if np.abs(values).max() > LEAST * max(abs(total), 1e-30)}
    return ScoreByDepth(names, shown, total, gap)


def _depths(model):
    if not isinstance(model, Model):
        raise ValueError("at must name the layers of a plain function, as dp.tap calls them: give at=[...]")
    blocks = [name for name in model.layers if name.count(".") == 1 and name.startswith("blocks.")]
    outer = [name for name in ("stem", *blocks, "head") if name in model.layers]
    return ("input", *(outer or [name for name in model.layers if name != "logits"]))


def _own(node: Node) -> float:
    if node.gradients is None or not node.incoming:
        return 0.0
    out = sum(_through(value, slope) for value, slope in zip(node.values, node.gradients, strict=True))
    return out - sum(_through(value_of(Place(edge.source, edge.output)), edge.gradient) for edge in node.incoming)


def _through(value, slope):
    if value is None or slope is None or not hasattr(slope, "dtype"):
        return 0.0
    return float(np.vdot(np.asarray(value, np.float64), np.asarray(slope, np.float64)))
