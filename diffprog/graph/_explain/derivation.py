"""Write out backpropagation: every step forward, and every gradient back, with its rule and its numbers."""

from typing import TYPE_CHECKING

import numpy as np

from diffprog._util.tables import text_table
from diffprog.graph._explain.formulas import formula
from diffprog.graph._recording.nodes import Edge, Node, Place
from diffprog.graph._recording.summaries import Summary, summarize
from diffprog.graph._recording.variable_names import name_nodes

if TYPE_CHECKING:
    from diffprog.graph._recording.recording import Recording


def explain(recording: "Recording", digits: int = 4, max_elements: int = 12) -> str:
    """Write out the derivation of a recording's gradient, in order.

    Args:
      recording: before or after `backward`.
      digits: number of significant digits.
      max_elements: number of elements above which an array is summarized.
    """
    called = name_nodes(recording)
    show = lambda x: _numbers(x, digits, max_elements)
    nodes = [node for node in recording.nodes if node.status == "live" and node.primitive != "input"]
    inputs = [node for node in recording.nodes if node.primitive in ("input", "constant") and _is_used(node)]
    title = f"{recording.function}, step by step"
    lines = [title, "=" * len(title), "", "Given"]
    lines += text_table([(f"  {called[node]}", f"= {show(node.value)}") for node in inputs], max_width=60)
    lines += ["", "Forward"]
    lines += text_table([_forward(node, called, show) for node in nodes], max_width=60)
    if recording.differentiated:
        output = _output_name(recording, called)
        lines += ["", f"Backward: the gradient of {output} with respect to every value, from the last to the first"]
        rows = []
        for node in reversed([n for n in recording.nodes if any(g is not None for g in n.gradients)]):
            rows += _backward(node, output, called, show)
        lines += text_table(rows, max_width=60)
    return "\n".join(line.rstrip() for line in lines)


def _is_used(node: Node) -> bool:
    return node.primitive == "input" or any(target.status == "live" for target in node.outputs)


def _output_name(recording, called) -> str:
    places = [place for place in recording.outputs if place is not None]
    return called[places[0].node] if len(places) == 1 else "L"


def _operands(node: Node, called, show) -> list[str]:
    """Name a node's arguments; a number stands for itself."""
    operands = []
    for x in node.arguments:
        if isinstance(x, Place):
            constant = x.node.status == "constant" and not x.node.avals[x.output].shape and x.node.values[0] is not None
            if constant and x.node.primitive != "input":
                operands.append(show(x.node.values[x.output]))
            else:
                operands.append(called[x.node] + (f".{x.output}" if not x.node.single else ""))
        else:
            operands.append(show(x))
    return operands


def _forward(node: Node, called, show):
    operands = _operands(node, called, show)
    written = formula(node, operands, called[node])
    text = written.forward.partition(" = ")[2] if written else f"{node.label}({', '.join(operands)})"
    return f"  {called[node]}", f"= {text}", f"= {show(node.values[0])}", str(node.source or "")


def _backward(node: Node, output: str, called, show):
    """Write the rows of one node: a single part is the gradient, several are listed and summed."""
    name = f"  d{output}/d{called[node]}"
    parts = [edge for edge in node.outgoing if edge.gradient is not None]
    total = show(node.gradients[0])
    if not parts:
        return [(name, "where it starts", f"= {total}")]
    if len(parts) == 1:
        return [(name, f"= {_part(parts[0], output, called, show)}", f"= {total}")]
    rows = []
    for start, sign, edge in zip([name, *[""] * len(parts)], ["=", *"+" * len(parts)], parts, strict=False):
        rows.append((start, f"{sign} {_part(edge, output, called, show)}", f"  {show(edge.gradient)}"))
    return [*rows, ("", "the sum of what comes from its uses", f"= {total}")]


def _part(edge: Edge, output, called, show) -> str:
    node = edge.target
    gradient = f"d{output}/d{called[node]}"
    written = formula(node, _operands(node, called, show), called[node], gradient)
    live = [e.argument for e in node.incoming if e.live]
    if written is None or edge.argument not in live or live.index(edge.argument) >= len(written.backward):
        return f"the rule of {node.label}, from {gradient}"
    return written.backward[live.index(edge.argument)]


def _numbers(x, digits: int, max_elements: int) -> str:
    """Write an array's numbers, or its summary."""
    summary = summarize(x)
    if x is None or summary is None:
        return "(not kept)" if x is None else str(x)
    if isinstance(x, Summary) or summary.size > max_elements:
        return f"{summary} ({'x'.join(map(str, summary.shape))})"
    array = np.asarray(x)
    if array.dtype.kind in "iub":
        return " ".join(str(array).split())
    return " ".join(
        np.array2string(array, formatter={"float_kind": lambda v: f"{v:.{digits}g}"}, separator=", ").split()
    )
