"""Where a program is: its name stack, as `jax.named_scope` and modules fill it."""

from jax._src import source_info_util

__all__ = ["as_path", "current_path", "path_of"]

# Equinox names the class of each of its layers, which says less than the place of the layer in its model.
_CLASSES = "eqx.nn."


def current_path() -> str:
    """The path of the code that is running, "MLP/Dense_1"; only from the start of the function that is being staged."""
    return path_of(source_info_util.current_name_stack())


def path_of(name_stack) -> str:
    """A name stack as a path: scopes and modules alone, without transformations."""
    return as_path(part.name for part in name_stack.stack if isinstance(part, source_info_util.Scope))


def as_path(scopes) -> str:
    """Names of scopes as a path."""
    return "/".join(name for name in scopes if not name.startswith(_CLASSES))
