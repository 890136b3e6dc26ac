"""Idioms that several operations make together: norms, softmax, rectifiers."""

import numpy as np

from diffprog.diagnosis._arrays import operand, varies
from diffprog.graph._recording.nodes import Node

_IDENTITIES = ("convert_element_type", "name", "broadcast_in_dim", "reshape", "stop_gradient")


def is_norm(root: Node) -> bool:
    """Whether a square root is of a sum of squares."""
    total = _behind(root.inputs[0]) if root.inputs else root
    if total.primitive == "dot_general":
        return len(set(total.inputs)) == 1
    return total.primitive == "reduce_sum" and bool(total.inputs) and _is_square(total.inputs[0])


def _is_square(node: Node) -> bool:
    if node.primitive == "mul":
        return len({(edge.source, edge.output) for edge in node.incoming}) == 1
    if node.primitive == "integer_pow":
        return node.params.get("y") == 2
    return node.primitive in ("square", "abs", "real")


def is_exponential_sum(node: Node) -> bool:
    """Whether a node is a sum of exponentials, as in the denominator of a softmax."""
    total = _behind(node)
    return total.primitive == "reduce_sum" and bool(total.inputs) and total.inputs[0].primitive == "exp"


def is_shifted_exponential(node: Node) -> bool:
    """Whether a node is an exponential after the largest exponent was subtracted, as in a softmax."""
    if node.primitive != "exp" or not node.inputs or node.inputs[0].primitive != "sub":
        return False
    shift = node.inputs[0].inputs[-1]
    while shift.primitive in (*_IDENTITIES, "max", "select_n") and shift.inputs:
        shift = shift.inputs[-1]
    return shift.primitive == "reduce_max"


def is_rectifier(node: Node) -> bool:
    """Whether a node is a ReLU, or a maximum with zero."""
    if node.label in ("relu", "relu6"):
        return True
    if node.primitive != "max":
        return False
    fixed = [operand(node, i) for i in (0, 1) if not varies(node, i)]
    return any(x is not None and not np.any(x) for x in fixed)


def _behind(node: Node) -> Node:
    """Find what an identity, or a chain of them, passes on."""
    while node.primitive in _IDENTITIES and node.inputs:
        node = node.inputs[0]
    return node
