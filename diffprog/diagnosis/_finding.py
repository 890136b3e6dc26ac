"""What a diagnosis returns."""

from dataclasses import dataclass
from functools import cached_property

from diffprog.diagnosis._residuals import Residuals, residuals
from diffprog.graph._recording.nodes import Node, Source
from diffprog.graph._recording.recording import Recording


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a gradient, and where it was born.

    Attributes:
      kind: "nan" (or infinity), "draw" (a random outcome that the gradient ignores), "search" (an answer that a loop
        chose by comparisons), "zero", "vanishing", "exploding" or "kink".
      cause: in a few words, "sqrt at zero behind a mask", "argmax has no derivative".
      node: the operation that did it; an input, if the input itself is the cause.
      title: one line.
      details: further lines.
      fix: what to write instead, one sentence; None if there is nothing to mend.
      cut: for kind "zero": "unused", "structure", "on purpose", "here" (zero for these values alone) or "for now" (zero
        until a factor that starts at zero has moved).
    """

    kind: str
    cause: str
    node: Node
    title: str
    details: tuple[str, ...] = ()
    fix: str | None = None
    cut: str | None = None

    @property
    def source(self) -> Source | None:
        """The user's line."""
        return self.node.source

    def __str__(self):
        lines = [self.title, *(f"  {line}" for line in self.details)]
        if self.fix:
            first, *rest = self.fix.splitlines()
            lines += [f"  fix: {first}", *(f"       {line}" for line in rest)]
        return "\n".join(lines)


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with the gradient of one run; printed, it is a few lines.

    Attributes:
      findings: what is wrong, the first cause first; empty if nothing is.
      recording: the run that was looked at, with its gradients.
      notes: what could not be looked at, and why.
      delayed: inputs whose gradient is zero until a factor that starts at zero has moved: nothing wrong.
    """

    findings: tuple[Finding, ...]
    recording: Recording
    notes: tuple[str, ...] = ()
    delayed: tuple[Finding, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @cached_property
    def memory(self) -> Residuals:
        """What the backward pass keeps, by size."""
        return residuals(self.recording)

    def __str__(self):
        inputs = [node for node in self.recording.inputs if node.differentiable[0]]
        parts = [str(finding) for finding in self.findings]
        if not parts:
            count = f"{len(inputs)} input" + "s" * (len(inputs) != 1)
            later = "".join(
                f" ({finding.title} once what is zero at {finding.source} has moved)" for finding in self.delayed
            )
            parts = [f"nothing wrong: the gradient of {self.recording.function} is finite and reaches {count}{later}"]
        return "\n\n".join(parts) + "".join(f"\nnote: {note}" for note in self.notes)

    def __repr__(self):
        return str(self)


def where(node: Node) -> str:
    """Write line, loop iteration and text of a node's source: "model.py:12  y = jnp.sqrt(x)"."""
    if node.primitive == "input":
        return f"the input {node.label}"
    if node.source is None:
        return node.label
    loops = "".join(f", iteration {i}" for i in node.iteration)
    second = ", in the reverse pass of that line" if node.path.split("/")[0] == "backward" else ""
    return f"{node.source}{loops}{second}  {node.source.text}".rstrip()
