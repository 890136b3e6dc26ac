"""`dp.diagnose`: run a function, look at every gradient in it, and report."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffprog._tracer.errors import MissingDerivative
from diffprog.diagnosis import _depth as depth
from diffprog.diagnosis import _draws as draws
from diffprog.diagnosis import _kinks as kinks
from diffprog.diagnosis import _nonfinite as nonfinite
from diffprog.diagnosis import _searches as searches
from diffprog.diagnosis import _zeros as zeros
from diffprog.diagnosis._finding import Diagnosis, Finding
from diffprog.graph import Recording, record
from diffprog.graph._recording.nodes import Node
from diffprog.graph._recording.record import function_of_arrays, named_leaves


def diagnose(fun: Callable, *, max_bytes: int = 2**30, max_nodes: int = 100_000) -> Callable[..., Diagnosis]:
    """Say what is wrong with the gradient of a function, and on which line it was born.

    `print(dp.diagnose(loss)(parameters, batch))` runs the function once, with every value and every gradient kept, and
    looks for NaN and infinity, for inputs whose gradient is zero or missing, for gradients that vanish or explode on
    their way, for derivatives taken exactly at a kink, and for derivatives that are not those that are meant: through
    draws whose probabilities depend on an input, and through answers that are chosen by comparisons, as a bisection's.
    What it finds is returned, never raised.

    Args:
      fun: function of pytrees to a scalar; for any other result, the gradient of the sum of all elements is looked
        at. It may be under `jit`, have loops, Flax or Equinox modules, or be itself a gradient.
      max_bytes: bytes of arrays that the recording keeps whole; it keeps later ones as summaries.
      max_nodes: number of operations above which the recording keeps a loop as one node.

    Returns:
      A function of the same arguments that returns a `Diagnosis`; its `memory` says what the backward pass keeps.
    """

    def diagnosed(*args, **kwargs) -> Diagnosis:
        recording = record(fun, max_bytes=max_bytes, max_nodes=max_nodes)(*args, **kwargs)
        notes = []
        if not isinstance(recording.output, jax.Array) or recording.output.shape != ():
            notes.append("the function does not return a scalar: this is the gradient of the sum of its results")
        try:
            recording.backward(jax.tree.map(jnp.ones_like, recording.output))
        except MissingDerivative as error:
            return Diagnosis((zeros.missing_rule(recording, error),), recording, (*notes, *recording.notes))
        findings = _look(recording, _rerunning(fun, args, kwargs, recording))
        lasting = tuple(finding for finding in findings if finding.cut != "for now")
        delayed = tuple(finding for finding in findings if finding.cut == "for now")
        return Diagnosis(lasting, recording, (*notes, *recording.notes), delayed)

    return diagnosed


def _rerunning(fun: Callable, args: tuple, kwargs: dict, recording: Recording) -> searches.Rerun:
    """Make of a function one of other values for some of its recorded inputs; it returns None where it cannot run."""
    _, leaves, tree = named_leaves(fun, args, kwargs)
    call, arrays = function_of_arrays(fun, leaves, tree)
    compiled = jax.jit(call)

    def rerun(values: dict[Node, Any]) -> Any:
        pairs = zip(recording.inputs, arrays, strict=True)
        moved = [jnp.asarray(values[node]) if node in values else x for node, x in pairs]
        for attempt in (compiled, call):
            try:
                return attempt(*moved)
            except Exception:  # that it fails for other values, or under jit, is no finding
                continue
        return None

    return rerun


def _look(recording: Recording, rerun: searches.Rerun) -> list[Finding]:
    """Look for everything that can be wrong with a gradient."""
    broken = nonfinite.find(recording)
    cut = zeros.find(recording)
    if broken:
        spoiled = {finding.node for finding in broken}
        # Zeros beside a NaN may be its doing; what the program's structure cuts is not.
        return broken + [finding for finding in cut if finding.cut != "here" and finding.node not in spoiled]
    drawn = draws.find(recording)
    searched = [] if drawn else searches.find(recording, rerun)
    lines = {finding.source for finding in searched}  # what to do about these is another thing than about a cut
    cut = [finding for finding in cut if finding.cut != "structure" or finding.source not in lines]
    return drawn + searched + cut + depth.find(recording) + kinks.find(recording)
