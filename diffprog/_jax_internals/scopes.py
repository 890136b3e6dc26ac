"""Names of operations (`jax.named_scope`) in the programs of gradients, as profilers show them.

JAX keeps with each operation a stack of scopes and transformations. As with `jax.grad`, one of the forward pass is
in "jvp(scope)", and what the backward pass does for it in "transpose(jvp(scope))".
"""

from jax._src.source_info_util import (
    NameStack,
    _source_info_context,
    current_name_stack,
    transform_name_stack,
)

__all__ = ["BackwardScopes", "current_name_stack", "forward_pass", "reverse_pass"]


def forward_pass():
    """Make the context of a function that is being differentiated."""
    return transform_name_stack("jvp")


def reverse_pass():
    """Make the context of a reverse pass over such a function."""
    return transform_name_stack("transpose")


class BackwardScopes:
    """A context in which the scopes of operations are set, those of one operation after another.

    They are set relative to those that the reverse pass is in, as those of the operations are to those around the tape.
    """

    __slots__ = ("around", "before", "depth", "last", "state")

    def __init__(self, around_tape: NameStack):
        self.depth = len(around_tape.stack)
        self.state = _source_info_context
        self.last: tuple = ()

    def __enter__(self):
        self.before = self.state.context
        self.around = self.before.name_stack
        return self

    def set(self, scopes: NameStack) -> None:
        """Be in these scopes."""
        stack = scopes.stack[self.depth :]
        if stack != self.last:
            self.last = stack
            self.state.context = self.before.replace(name_stack=NameStack(self.around.stack + stack))

    def __exit__(self, *error):
        self.state.context = self.before
