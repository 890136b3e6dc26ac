"""What the program itself says about its gradient, from a recording of one run."""

from collections.abc import Callable
from typing import Any, NamedTuple

from diffprog.diagnosis import Diagnosis, Finding, diagnose
from diffprog.graph._recording.nodes import Node


class Structure(NamedTuple):
    """What `dp.diagnose` finds, sorted.

    Attributes:
      inputs: labels of the inputs that could have a gradient.
      cut: labels of those that have none because the structure of the program cuts it off.
      cuts: the findings that say where.
      broken: where a NaN or an infinity is born; None if all is finite.
      others: further findings: kinks active at the point, gradients that explode or vanish, draws, searches.
    """

    inputs: tuple[str, ...]
    cut: tuple[str, ...]
    cuts: tuple[Finding, ...]
    broken: Finding | None
    others: tuple[Finding, ...]

    @property
    def is_cut_off(self) -> bool:
        """Whether no input has a gradient."""
        return len(self.cut) == len(self.inputs) > 0

    def has(self, kind: str) -> bool:
        """Whether there is a further finding of a kind."""
        return any(finding.kind == kind for finding in self.others)


def structure(objective: Callable[[Any], Any], parameters: Any) -> Structure:
    """Record one run and look at its gradient.

    Args:
      objective: of the parameters to a scalar.
      parameters: where.

    Returns:
      The findings.
    """
    found: Diagnosis = diagnose(objective)(parameters)
    cuts = tuple(f for f in found.findings if f.kind == "zero" and f.cut == "structure")
    searches = tuple(f for f in found.findings if f.kind == "search")
    inputs = [node for node in found.recording.inputs if node.differentiable[0]]
    missing = [node for node in inputs if _has_none(node)] if cuts or searches else []
    broken = next((f for f in found.findings if f.kind == "nan"), None)
    others = tuple(f for f in found.findings if f not in cuts and f is not broken)
    label = lambda nodes: tuple(node.label for node in nodes)
    return Structure(label(inputs), label(missing), cuts or searches, broken, others)


def _has_none(node: Node) -> bool:
    return not node.gradients or node.gradients[0] is None
