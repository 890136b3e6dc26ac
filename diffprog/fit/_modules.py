"""Modules that change as they are called: Flax's NNX, taken apart into parameters and state."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import jax


def as_pytree(loss: Callable, parameters: Any, state: Any) -> tuple[Callable, Any, Any, Callable[[Any, Any], Any]]:
    """Divide a module of NNX into its parameters and all else it holds, which becomes the state.

    Args:
      loss: of a module and a batch.
      parameters: a module of NNX, or anything else.
      state: None for a module.

    Returns:
      Loss, parameters and state as a pytree; and what makes of new parameters and a new state what was given. Anything
      but a module of NNX comes back as it is.

    Raises:
      TypeError: There is a module and a state.
    """
    nnx = sys.modules.get("flax.nnx")  # a module of it cannot be there without
    if nnx is None or not isinstance(parameters, nnx.Module):
        return loss, parameters, state, lambda parameters, state: parameters
    if state is not None:
        raise TypeError("a module of NNX holds its state itself: leave state out")
    graph, weights, rest = nnx.split(parameters, nnx.Param, ...)

    def call(parameters: Any, batch: Any, state: Any, **options: Any) -> Any:
        fresh = jax.tree.map(lambda leaf: leaf, (parameters, state))  # variables of this trace, which may change in it
        module = nnx.merge(graph, *fresh)
        value = loss(module, batch, **options)
        return value, nnx.split(module, nnx.Param, ...)[2]

    signature = inspect.signature(loss)
    own = [inspect.Parameter("parameters", inspect.Parameter.POSITIONAL_ONLY)]
    own += [inspect.Parameter("batch", inspect.Parameter.POSITIONAL_ONLY)]
    own += [inspect.Parameter("state", inspect.Parameter.KEYWORD_ONLY)]
    if "key" in signature.parameters:
        own.append(signature.parameters["key"].replace(kind=inspect.Parameter.KEYWORD_ONLY))
    call.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    return call, weights, rest, lambda parameters, state: nnx.merge(graph, parameters, state)
