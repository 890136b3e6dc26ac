"""Run a program with some of its operations' arguments or results replaced by those of another run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp

from diffprog._jax_internals import has_gradient, set_current_trace, typeof
from diffprog._jax_internals.sources import as_path, scopes
from diffprog._tracer.tape import Traced
from diffprog.attribute._inside.credits import is_inexact, value_of
from diffprog.attribute._inside.matching import Site, Turns
from diffprog.graph import Node, Place, Summary
from diffprog.graph._recording.recorder import Recorder
from diffprog.graph._recording.source_lines import current_source


@dataclass(frozen=True)
class Patch:
    """What is other at one operation.

    Attributes:
      arguments: by their position, values that it gets.
      results: by their position, values that take the place of its own.
      compute: (values of its arguments) -> the list of its results; its own computation if None.
    """

    arguments: Mapping[int, Any] = field(default_factory=dict)
    results: Mapping[int, Any] = field(default_factory=dict)
    compute: Callable[..., list] | None = None


WITH_OWN_RULE = ("custom_jvp_call", "custom_vjp_call")


class PatchedRecorder(Recorder):
    """A recorder that runs a program with patches.

    Branches and loops go the way that the patched values lead them. Gradients are those with respect to inputs and to
    patched results; also where none are wanted, as other operations would be recorded without.
    """

    def __init__(self, parent, retention, patches: Mapping[Site, Patch]):
        """Start without nodes.

        Args:
          parent: the trace in which the operations really run.
          retention: what is kept of arrays.
          patches: by the site of the operation.
        """
        super().__init__(parent, retention)
        self._patches, self._turns = patches, Turns()

    def input(self, value, label, differentiable):
        patch = self._patches.get(self._turns.site("input", label, "", (), None, ()))
        value = value if patch is None else patch.results.get(0, value)
        return super().input(value, label, differentiable)

    def record_op(self, name, args, params, run, compute, multiple_results, label=None):
        tap = params["name"] if name == "name" and isinstance(params["name"], str) else None
        source = current_source(self._call_site)
        site = self._turns.site(name, tap or label or name, as_path(scopes()), self._iteration, source, args)
        patch = self._patches.get(site)
        if patch is None:
            return super().record_op(name, args, params, run, compute, multiple_results, label)
        # JAX waits for its own call of a function with a custom rule: the one of the other run would not do.
        other = None if name in WITH_OWN_RULE else patch.compute
        patched = lambda: self._patched(name, args, patch, other or compute, multiple_results)
        return super().record_op(name, args, params, patched, compute, multiple_results, label)

    def _patched(self, name, args, patch, compute, multiple_results):
        values, _ = self.untrace(args)
        values = [patch.arguments.get(i, x) for i, x in enumerate(values)]
        with set_current_trace(self.parent):
            results = [patch.results.get(i, x) for i, x in enumerate(compute(*values))]
        if any(has_gradient(typeof(x)) for x in results):
            written = self.write(name, (), results, lambda _: (), not multiple_results)
            results = [Traced(self, x, written, i) if has_gradient(typeof(x)) else x for i, x in enumerate(results)]
        return results if multiple_results else results[0]


def replaced(values: Sequence[Any]) -> Patch:
    """Make the patch that gives an operation these results; None leaves one as it is."""
    return Patch(results={i: x for i, x in enumerate(values) if x is not None})


def results_of(node: Node) -> Patch:
    """Make the patch that gives an operation the results of its partner in the clean run.

    Args:
      node: of the clean run.
    """
    return replaced([value_of(Place(node, i)) for i in range(len(node.values))])


def argument_of(node: Node, argument: int) -> Patch:
    """Make the patch that gives an operation one argument of its partner in the clean run."""
    return Patch(arguments={argument: value_of(node.arguments[argument])})


def alone(node: Node) -> Patch:
    """Make the patch that lets an operation run as its partner in the clean run, but for computed floats.

    It reads the clean run's inputs and numbers, is the clean run's operation, and decides as in the clean run: its
    results that are no floats are those of the clean run.
    """
    own = {i: value_of(x) for i, x in enumerate(node.arguments) if not _is_computed_float(x)}
    results = [None if is_inexact(value) else value for value in node.values]
    return Patch(
        {i: x for i, x in own.items() if x is not None},
        {i: x for i, x in enumerate(results) if x is not None and not isinstance(x, Summary)},
        node.compute,
    )


def _is_computed_float(argument: Any) -> bool:
    if not isinstance(argument, Place) or argument.node.primitive in ("input", "constant"):
        return False
    return jnp.issubdtype(argument.node.avals[argument.output].dtype, jnp.inexact) and argument.node.status != "blocked"
