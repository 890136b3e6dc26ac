"""Where differences come in other than by inputs with a gradient: what a backward pass has to reach besides these."""

from diffprog.attribute._inside.credits import difference, value_of
from diffprog.attribute._inside.matching import Match
from diffprog.graph import Node, Place


def origins(match: Match) -> list[Node]:
    """List the nodes whose floats differ although none of those that they use do, as the embeddings of other words.

    Returns:
      Nodes of the corrupt run that have a partner, in order.
    """
    found = []
    for node, partner in match.partner.items():
        if node.primitive in ("input", "constant") or any(map(_differ, partner.arguments, node.arguments)):
            continue
        if any(_differ(Place(partner, i), Place(node, i)) for i in range(len(node.values))):
            found.append(node)
    return found


def unreached(match: Match, reached: list[Node]) -> list[Node]:
    """List the nodes whose value another stands for in the clean run, and that no gradient reaches.

    A time that a loop counts is such a value: it depends on no input, but on how often the loop runs.

    Args:
      match: the two runs.
      reached: nodes of the corrupt run that gradients reach besides those that depend on inputs.

    Returns:
      Nodes of the corrupt run, in order.
    """
    live: set[Node] = set()
    for node in match.corrupt.nodes:
        if any(node.differentiable):
            live.add(node)
    for node in reached:
        _spread(node, live)
    found = []
    for node, partner in match.partner.items():
        for edge in node.incoming:
            source = edge.source
            if source in live or source.status == "blocked" or source.primitive in ("input", "constant"):
                continue
            if _differ(partner.arguments[edge.argument], node.arguments[edge.argument]):
                found.append(source)
                _spread(source, live)
    return found


def _spread(node: Node, live: set[Node]):
    """Note that gradients reach a node, and with it all that is computed from it."""
    stack = [node]
    while stack:
        reached = stack.pop()
        if reached in live:
            continue
        live.add(reached)
        stack += [target for target in reached.outputs if target.status != "blocked"]


def _differ(clean, corrupt) -> bool:
    delta = difference(value_of(clean), value_of(corrupt))
    return delta is not None and bool(delta.any())
