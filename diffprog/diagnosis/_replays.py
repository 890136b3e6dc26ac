"""Run a recording again with changed values, and look at its output."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from diffprog._util.walk import walk
from diffprog.diagnosis._arrays import array, used_by
from diffprog.graph._recording.nodes import Edge, Node, Place
from diffprog.graph._recording.recording import Recording

MAX_NODES = 20_000
"""Operations of a recording above which it is not run again: one after the other, they would take seconds."""


def output(recording: Recording, changes: dict[Place, Any]) -> np.ndarray | None:
    """Run a recording again with values in some places; what `stop_gradient` gave stays as it was recorded.

    Returns:
      All real numbers of the output, in a row; None if the recording is too long, keeps too little, or does something
      to the world outside, to run again.
    """
    if len(recording.nodes) > MAX_NODES or any(node.primitive == "io_callback" for node in recording.nodes):
        return None
    stopped = {Place(node, 0): node.values[0] for node in recording.nodes if node.primitive == "stop_gradient"}
    if any(array(value) is None for value in stopped.values()):
        return None
    return numbers(recording.replay({**stopped, **changes}))


def numbers(results: Any) -> np.ndarray | None:
    """Put all real numbers of a pytree in a row; None if there are none."""
    results = (array(x) for x in jax.tree.leaves(results))
    parts = [np.ravel(x.real).astype(float) for x in results if x is not None and x.dtype.kind in "fc"]
    return np.concatenate(parts) if parts else None


def reaching(recording: Recording) -> set[Node]:
    """Find the operations whose results reach the output by a way on which nothing is stopped on purpose."""
    outputs = {place.node for place in recording.outputs if place is not None}
    return set(walk(outputs, lambda node: [] if node.primitive == "stop_gradient" else node.inputs))


def lost(node: Node, reached: set[Node]) -> list[Edge]:
    """List the edges whose gradient an operation cuts off, though a result of it reaches the output."""
    if node.primitive == "stop_gradient" or node not in reached:
        return []
    cut = [i for i, passes in enumerate(node.differentiable) if not passes and _is_used(node, i, reached)]
    return [edge for edge in node.incoming if edge.source.differentiable[edge.output]] if cut else []


def _is_used(node: Node, output: int, reached: set[Node]) -> bool:
    return not node.outgoing or any(edge.target in reached for edge in used_by(node, output))


def inputs_behind(edges: list[Edge]) -> list[Node]:
    """List the inputs on which the sources of some edges depend, by ways that carry a gradient."""

    def live(node: Node) -> Iterator[Node]:
        return (edge.source for edge in node.incoming if edge.live)

    nodes = walk([edge.source for edge in edges], live)
    return sorted((node for node in nodes if node.primitive == "input"), key=lambda node: node.index)
