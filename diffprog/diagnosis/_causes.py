"""Why an operation made something that is not finite: its operands looked up in the table of primitives."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from diffprog.diagnosis._arrays import array, element, operand
from diffprog.diagnosis._primitives import Element, Row, known
from diffprog.graph._recording.nodes import Edge, Node, Place


class Cause(NamedTuple):
    """Why something is not finite.

    Attributes:
      text: in a few words.
      details: further lines.
      fix: what to write instead, where the cause alone says it.
    """

    text: str
    details: tuple[str, ...] = ()
    fix: str | None = None


def forward_cause(node: Node, index: tuple[int, ...] | None) -> Cause:
    """Explain a result that is not finite.

    Args:
      node: the operation.
      index: of the element; None if it is not known.
    """
    here = _element(node, index)
    original = differentiated(node)
    if original is not None:
        row = _first(known(original.primitive).slopes, _element(original, index))
        if row is not None:
            return Cause(words(row.cause, original), (f"its slope: {row.slope}",))
    row = _first(known(node.primitive).forward, here)
    if row is None:
        return Cause(f"{'infinity' if here.infinite else 'overflow'} in {node.primitive}")
    return Cause(words(row.cause, node), _details(row, here), row.fix)


def backward_cause(edge: Edge, index: tuple[int, ...] | None) -> Cause:
    """Explain a gradient that is not finite and that an operation sends to one of its operands.

    Args:
      edge: from the operand to the operation.
      index: of the element of the operation's result; None if it is not known.
    """
    node = edge.target
    record, here = known(node.primitive), _element(node, index, edge)
    arrived = element(array(node.gradients[0]), index) if node.single else None
    row = _first((*record.backward, *record.slopes), here)
    if row is None:
        slope = "the slope is infinite" if arrived is not None and np.isfinite(arrived) else "the slope is not finite"
        return Cause(f"{node.primitive} has no finite slope here", (slope,))
    slope = row.slope(here) if callable(row.slope) else row.slope
    return Cause(words(row.cause, node), (*([_product(arrived, slope)] if slope else []), *_details(row, here)))


def differentiated(node: Node) -> Node | None:
    """Find the operation whose slope a node of a recorded reverse pass computes, if that slope can be singular."""
    if not _in_reverse(node):
        return None
    operands = [x.node for x in node.arguments if isinstance(x, Place)]
    for candidate in operands + [edge.target for x in operands for edge in x.outgoing]:
        if known(candidate.primitive).slopes and candidate.source == node.source and not _in_reverse(candidate):
            return candidate
    return None


def words(text: str, node: Node) -> str:
    """Fill in the words that stand for an operation."""
    return text.format(name=node.primitive, label=node.label.strip("_"), dtype=node.dtype)


def _in_reverse(node: Node) -> bool:
    return "backward" in node.path.split("/")


def _first(rows: Iterable[Row], here: Element) -> Row | None:
    return next((row for row in rows if row.holds(here)), None)


def _details(row: Row, here: Element) -> tuple[str, ...]:
    detail = row.detail(here) if callable(row.detail) else row.detail
    return (detail,) if detail else ()


def _element(node: Node, index: tuple[int, ...] | None, edge: Edge | None = None) -> Element:
    arrays = [operand(node, i) for i in range(len(node.arguments))]
    values = [_or_nan(element(x, index)) for x in arrays]
    x, y = [*values, math.nan, math.nan][:2]
    argument = edge.argument if edge is not None else 0
    result = element(array(node.values[0]), index)
    return Element(
        node,
        x=x if edge is None else _or_nan(element(array(edge.source.values[edge.output]), index)),
        y=y,
        power=node.params.get("y", y) if node.primitive in ("pow", "integer_pow") else math.nan,
        factor=values[1 - argument] if len(values) == 2 else math.nan,
        argument=argument,
        infinite=any(map(np.isinf, values)),
        any_infinite=any(x is not None and x.dtype.kind in "fc" and np.isinf(x).any() for x in arrays),
        overflows=result is None or not np.isfinite(result),
    )


def _or_nan(x):
    return math.nan if x is None else x


def _product(arrived, slope: str) -> str:
    """Multiply the gradient that arrives by the slope."""
    if arrived is None:
        return f"local slope: {slope}"
    outcome = "0 * inf = nan" if arrived == 0 else f"{arrived:.6g} * inf = inf"
    return f"local slope: {slope}; {outcome}"
