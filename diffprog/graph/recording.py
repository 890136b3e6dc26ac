"""A tape that is kept: the operations of one run in order, with values and, after `backward`, gradients."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from diffprog.jax_internals import jaxpr_as_fun, set_current_trace, take_current_trace
from diffprog.tracer.backward import backward
from diffprog.tracer.tape import Node, Tape


@dataclass
class RecordedNode:
    """An operation of a recorded run, or one of its inputs.

    Attributes:
      operation: the primitive's name, "input" for an input.
      value: its result, or the list of its results.
      inputs: positions, in the recording, of the nodes whose results it used and that have a gradient.
      gradient: of the output with respect to `value`, None before `backward` and where the output does not depend
        on it.
    """

    operation: str
    value: Any
    inputs: list[int]
    gradient: Any = None
    _node: Node = field(repr=False, default=None)


class _KeepingTape(Tape):
    """A tape that holds on to every node and its results. Functions under `jit` are recorded operation by operation."""

    def __init__(self, parent):
        super().__init__(parent)
        self.kept: list[tuple[Node, list]] = []

    def write(self, name, sources, results, backward, single):
        node = super().write(name, sources, results, backward, single)
        self.kept.append((node, results))
        return node

    def process_primitive(self, primitive, args, params, /):
        if primitive.name == "jit":
            with set_current_trace(self):
                return jaxpr_as_fun(params["jaxpr"])(*args)
        return super().process_primitive(primitive, args, params)


class Recording:
    """One run of a function.

    Attributes:
      output: what the function returned, a scalar array.
      nodes: its inputs and operations, in the order in which they ran.
    """

    def __init__(self, output, nodes: list[RecordedNode], place):
        self.output, self.nodes, self._place = output, nodes, place

    def backward(self) -> "Recording":
        """Fill the gradient of the output with respect to every node, in one reverse pass; returns itself."""
        position = {recorded._node: recorded for recorded in self.nodes}

        def note(node, arrived):
            position[node].gradient = arrived[0] if node.single else arrived

        if self._place is not None:
            seed = (self._place, jnp.ones_like(self.output))
            backward([seed], [], visit=note)
        return self


def record(fun: Callable) -> Callable[..., Recording]:
    """A function of the same arguments that returns the `Recording` of running `fun`.

    Args:
      fun: function of arrays or pytrees of arrays to a scalar.
    """

    def recorded(*args) -> Recording:
        leaves, tree = jax.tree.flatten(args)
        with take_current_trace() as parent:
            tape = _KeepingTape(parent)
            with set_current_trace(parent):
                traced = [tape.watch(jnp.asarray(x)) for x in leaves]
            with set_current_trace(tape):
                output = fun(*jax.tree.unflatten(tree, traced))
            tape.invalidate()
        output, place = tape.untraced(output)
        order = {node: i for i, (node, _) in enumerate(tape.kept)}
        nodes = [
            RecordedNode(
                operation=node.name,
                value=results[0] if node.single else list(results),
                inputs=[order[source[0]] for source in node.sources if source is not None],
                _node=node,
            )
            for node, results in tape.kept
        ]
        return Recording(output, nodes, place)

    return recorded
