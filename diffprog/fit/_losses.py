"""How a user's loss is called: with a key and with a state where its signature asks for them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

NONE = inspect.Parameter.empty


@dataclass(frozen=True)
class Loss:
    """A user's function of parameters and a batch, called in one way.

    Attributes:
      function: `function(parameters, batch)`, also of `key=` and `state=`.
      takes_key: whether it takes a random key.
      needs_key: whether it cannot do without.
      takes_state: whether it takes the model's state.
    """

    function: Callable
    takes_key: bool
    needs_key: bool
    takes_state: bool

    def train(self, parameters: Any, batch: Any, key: jax.Array | None, state: Any) -> Any:
        """Call it as a step does: the value, or value and new state."""
        return self.function(parameters, batch, **self._options(key if self.takes_key else None, state))

    def evaluate(self, parameters: Any, batch: Any, key: jax.Array, state: Any) -> jax.Array:
        """Call it as a measurement does: without a key if it can do without, and without a new state."""
        result = self.function(parameters, batch, **self._options(key if self.needs_key else None, state))
        return result[0] if isinstance(result, tuple) else result

    def _options(self, key, state):
        options = {} if key is None else {"key": key}
        return options | {"state": state} if self.takes_state and state is not None else options


def read_loss(function: Callable, name: str, state: Any, is_metric: bool = False) -> Loss:
    """Look at a function's signature.

    Raises:
      TypeError: It is no function, or it takes a state and there is none, or the reverse.
    """
    if not callable(function):
        raise TypeError(f"{name} must be a function of parameters and a batch; found {function!r:.60}")
    parameters: Any = {}
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of a built-in
        pass
    takes = {word: word in parameters for word in ("key", "state")}
    needs = {word: yes and parameters[word].default is NONE for word, yes in takes.items()}
    if needs["state"] and state is None:
        raise TypeError(f"{name} takes state= and there is none: give fit the model's state, as state={{...}}")
    if state is not None and not takes["state"] and not is_metric:
        raise TypeError(
            f"state= was given and {name} does not take it: write {name}(parameters, batch, state), which returns "
            "(value, new_state)"
        )
    return Loss(function, takes["key"], needs["key"], takes["state"])
