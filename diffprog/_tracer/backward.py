"""The reverse pass over a tape. It knows neither primitives nor JAX's internals."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from diffprog._jax_internals.scopes import BackwardSources
from diffprog._tracer import cotangents
from diffprog._util.walk import walk


class Taped(NamedTuple):
    """What a program that ran on a tape leaves for its reverse pass.

    It holds no value of the program, so that only what the rules keep stays in memory.

    Attributes:
      places: (node, output number) of each result, None for a result without a gradient.
      inputs: nodes of the arguments that need a gradient.
      around: the scopes around the program, outside of those of its operations.
    """

    places: Sequence
    inputs: Sequence
    around: Any

    @property
    def active(self) -> tuple[bool, ...]:
        """Which results depend on an input."""
        return tuple(place is not None for place in self.places)

    def pull(self, cotangents: Iterable, whole: bool = True) -> list:
        """Send cotangents of the results, None for zero, back to the inputs; see `backward`."""
        pairs = zip(self.places, cotangents, strict=True)
        seeds = [(place, g) for place, g in pairs if place is not None and g is not None]
        with BackwardSources(self.around) as sources:
            return backward(seeds, self.inputs, whole=whole, enter=sources.set)


def backward(
    seeds: Iterable, inputs: Iterable, visit: Callable | None = None, whole: bool = True, enter: Callable | None = None
) -> list:
    """Send cotangents from results back to inputs.

    Args:
      seeds: pairs ((node, output number), cotangent).
      inputs: nodes of the program's inputs.
      visit: called as visit(node, cotangents of its results, cotangents that it sends to its arguments) for every
        node on the way, in reverse order. An input sends nothing, nor does a node that no cotangent reached.
      whole: whether the cotangents of inputs are made arrays.
      enter: called with the scopes and the line of each node, before its cotangents are computed.

    Returns:
      One cotangent per input: None where the results do not depend on it, an array, or if not `whole` maybe a part.
    """
    # The first cotangent of a value, and the sum of those that come later. Along residual connections the first is the
    # sum of all layers above: added last, it is read; in between, XLA's CPU backend computes it again per layer.
    first: dict = {}
    later: dict = {}
    at_inputs: dict = {}

    def accumulate(place, cotangent):
        if place not in first:
            first[place] = cotangent
        elif place not in later:
            later[place] = cotangent
        else:
            with (place[0].context or nullcontext)():
                later[place] = cotangents.add(later[place], cotangent)

    def total(node, i):
        place = node, i
        cotangent = first.pop(place, None)
        return cotangents.add(later.pop(place), cotangent) if place in later else cotangent

    def send(node):
        if node.backward is None and not whole:
            at_inputs[node] = total(node, 0)
            return
        arrived = [cotangents.materialize(total(node, i)) for i in range(len(node.avals))]
        sent: Sequence = ()
        if node.backward is None:
            at_inputs[node] = arrived[0]
        elif any([g is not None for g in arrived]):  # of one or two; a generator would take longer
            sent = node.backward(arrived[0] if node.single else arrived)
            for source, cotangent in zip(node.sources, sent, strict=True):
                if source is not None:
                    accumulate(source, cotangent)
        if visit is not None:
            visit(node, arrived, sent)

    seeds = list(seeds)
    for place, cotangent in seeds:
        accumulate(place, cotangent)
    nodes = walk((place[0] for place, _ in seeds), _sources, nearest_first=True)
    for node in sorted(nodes, key=lambda node: node.order, reverse=True):
        if enter is not None:
            enter(node.source)
        if node.context is None:
            send(node)
        else:
            with node.context():
                send(node)

    return [at_inputs.get(node) for node in inputs]


def _sources(node) -> list:
    return [source[0] for source in node.sources if source is not None]
