"""One reverse pass over a tape. It knows neither primitives nor JAX's internals."""

from collections.abc import Callable
from contextlib import nullcontext

from diffprog._tracer import cotangents


def backward(seeds, inputs, visit: Callable | None = None) -> list:
    """Send cotangents from results back to inputs.

    Args:
      seeds: ((node, output number), cotangent) of each result that has a gradient.
      inputs: the nodes of the program's inputs.
      visit: called as visit(node, cotangents of its results, cotangents that it sends to its arguments) for every
        node on the way, in reverse order; an input, and a node that nothing came to, sends nothing.

    Returns:
      one cotangent per input: an array, or None where the results do not depend on it.
    """
    totals: dict = {}
    at_inputs: dict = {}

    def accumulate(place, cotangent):
        if place not in totals:
            totals[place] = cotangent
        else:
            with (place[0].context or nullcontext)():
                totals[place] = cotangents.add(totals[place], cotangent)

    def send(node):
        arrived = [cotangents.materialize(totals.pop((node, i), None)) for i in range(len(node.avals))]
        sent = ()
        if node.backward is None:
            at_inputs[node] = arrived[0]
        elif any(g is not None for g in arrived):
            sent = node.backward(arrived[0] if node.single else arrived)
            for source, cotangent in zip(node.sources, sent, strict=True):
                if source is not None:
                    accumulate(source, cotangent)
        if visit is not None:
            visit(node, arrived, sent)

    for place, cotangent in seeds:
        accumulate(place, cotangent)
    for node in _in_reverse(place[0] for place, _ in seeds):
        if node.context is None:
            send(node)
        else:
            with node.context():
                send(node)

    return [at_inputs.get(node) for node in inputs]


def _in_reverse(starts) -> list:
    """Every node that the starting nodes depend on, last recorded first."""
    found = set()
    waiting = list(starts)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(source[0] for source in node.sources if source is not None)
    return sorted(found, key=lambda node: node.order, reverse=True)
