"""What stands in the place of arguments and gradients in what `jax.vjp` returns, as the installed JAX knows it."""

from jax._src import api

from diffprog._jax_internals.avals import is_reference

__all__ = ["DidntWant", "DontWant", "GradRef", "NotNeeded", "NotSaveable", "takes_gradient"]

NotNeeded = api.NotNeeded
"""Stands for an argument that the backward pass does not read."""

NotSaveable = getattr(api, "NotSaveable", NotNeeded)  # since JAX 0.12
"""Stands for an argument that it reads and that the caller keeps."""

DontWant, DidntWant, GradRef = api.DontWant, api.DidntWant, api.GradRef


def takes_gradient(target) -> bool:
    """Whether this is a mutable array, for a gradient to be added to it."""
    try:
        return is_reference(target)
    except TypeError:  # no value of JAX's at all
        return False
