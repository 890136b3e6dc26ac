"""`dp.diagnose`: run a function, look at every gradient in it, and report."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffprog._tracer.errors import MissingDerivative
from diffprog.diagnosis import _depth as depth
from diffprog.diagnosis import _kinks as kinks
from diffprog.diagnosis import _nonfinite as nonfinite
from diffprog.diagnosis import _zeros as zeros
from diffprog.diagnosis._finding import Diagnosis, Finding
from diffprog.graph import Recording, record


def diagnose(fun: Callable, *, max_bytes: int = 2**30, max_nodes: int = 100_000) -> Callable[..., Diagnosis]:
    """Say what is wrong with the gradient of a function, and on which line it was born.

    `print(dp.diagnose(loss)(parameters, batch))` runs the function once, with every value and every gradient kept, and
    looks for NaN and infinity, for inputs whose gradient is zero or missing, for gradients that vanish or explode on
    their way, and for derivatives taken exactly at a kink. What it finds is returned, never raised.

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
        findings = _look(recording)
        lasting = tuple(finding for finding in findings if finding.cut != "for now")
        delayed = tuple(finding for finding in findings if finding.cut == "for now")
        return Diagnosis(lasting, recording, (*notes, *recording.notes), delayed)

    return diagnosed


def _look(recording: Recording) -> list[Finding]:
    """Look for everything that can be wrong with a gradient."""
    broken = nonfinite.find(recording)
    cut = zeros.find(recording)
    if broken:
        spoiled = {finding.node for finding in broken}
        # Zeros beside a NaN may be its doing; what the program's structure cuts is not.
        return broken + [finding for finding in cut if finding.cut != "here" and finding.node not in spoiled]
    return cut + depth.find(recording) + kinks.find(recording)
