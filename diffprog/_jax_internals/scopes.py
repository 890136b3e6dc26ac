"""Names and lines of operations in the programs of gradients, as profilers show them.

JAX keeps with each operation a stack of scopes (`jax.named_scope`) and transformations, and where it was called. As
with `jax.grad`, one of the forward pass is in "jvp(scope)", and what the backward pass does for it in
"transpose(jvp(scope))", at the same line.
"""

from jax._src.core import EvalTrace
from jax._src.source_info_util import (
    NameStack,
    SourceInfo,
    _source_info_context,
    current,
    current_name_stack,
    transform_name_stack,
)

__all__ = ["BackwardSources", "current_name_stack", "current_source", "forward_pass", "reverse_pass"]


def forward_pass():
    """Make the context of a function that is being differentiated."""
    return transform_name_stack("jvp")


def reverse_pass():
    """Make the context of a reverse pass over such a function."""
    return transform_name_stack("transpose")


def current_source(trace) -> SourceInfo:
    """Get the scopes that are current, and where the program is, unless its operations run at once in this trace."""
    source = _source_info_context.context
    return source if source.traceback is not None or type(trace) is EvalTrace else current()


class BackwardSources:
    """A context in which the scopes and the lines of operations are set, those of one operation after another.

    Scopes are set relative to those that the reverse pass is in, as those of the operations are to those around the
    tape.
    """

    __slots__ = ("around", "before", "depth", "last", "state")

    def __init__(self, around_tape: NameStack):
        self.depth = len(around_tape.stack)
        self.state = _source_info_context
        self.last: SourceInfo | None = None

    def __enter__(self):
        self.before = self.state.context
        self.around = self.before.name_stack.stack
        return self

    def set(self, source: SourceInfo) -> None:
        """Be where this operation was."""
        if source is not self.last:
            self.last = source
            scopes = NameStack(self.around + source.name_stack.stack[self.depth :])
            self.state.context = self.before.replace(traceback=source.traceback, name_stack=scopes)

    def __exit__(self, *error):
        self.state.context = self.before
