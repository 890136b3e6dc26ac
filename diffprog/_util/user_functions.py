"""Calls of functions that a user gives, while JAX traces them."""

from collections.abc import Callable
from typing import Any

import jax

from diffprog._util.modules import explain_module_error
from diffprog._util.promotion import callers_promotion


def call_traced(name: str, function: Callable[..., Any], *inputs: Any) -> Any:
    """Call a function while JAX traces it, under the caller's settings.

    Args:
      name: what it is called in messages.
      function: the user's.
      *inputs: pytrees of arrays, of which the first is described in messages.

    Returns:
      What it returns.

    Raises:
      ValueError: it is a module that takes more than its inputs, or it looks at values. An error of its own gets a
        note, and is raised as it is.
    """
    try:
        with callers_promotion():
            return function(*inputs)
    except Exception as error:
        if (sentence := explain_module_error(error)) is not None:
            raise ValueError(f"{name} must be a function of its inputs alone; found {sentence}") from error
        if not (isinstance(error, TypeError) and "racer" in f"{type(error).__name__} {error}"):
            kinds = ", ".join(f"{leaf.dtype} {leaf.shape}" for leaf in jax.tree.leaves(inputs[0]))
            error.add_note(f"{name} was asked about {kinds}, a batch at a time.")
            raise
        raise ValueError(
            f"{name} must compute with jax.numpy and not look at values; found {type(error).__name__} "
            "while it was traced: replace NumPy, torch and Python's if in it"
        ) from error
