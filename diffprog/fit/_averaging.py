"""The mean of the weights along the way, as a link of an optimizer's chain."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from diffprog._util.promotion import own_promotion


class AverageState(NamedTuple):
    """What is known of the weights so far.

    Attributes:
      num_updates: how many there were.
      mean: their weighted mean, times 1 - decay**num_updates.
    """

    num_updates: jax.Array
    mean: Any


def average_weights(decay: float) -> optax.GradientTransformation:
    """Keep the exponential mean of the parameters after each update; it changes no update.

    After n updates, the parameters after update k weigh (1 - decay) decay^(n-k) / (1 - decay^n): the start, which was
    not learned, has no weight.

    Args:
      decay: weight of the past, in [0, 1).

    Returns:
      A transformation for the end of a chain; `averaged` reads its state.
    """

    def init(parameters):
        return AverageState(jnp.int32(0), jax.tree.map(jnp.zeros_like, parameters))

    def update(updates, state, parameters=None):
        moved = optax.apply_updates(parameters, updates)
        mean = jax.tree.map(lambda mean, new: (decay * mean + (1 - decay) * new).astype(mean.dtype), state.mean, moved)
        return updates, AverageState(state.num_updates + 1, mean)

    return optax.GradientTransformation(init, update)


@own_promotion()
def averaged(state: AverageState, decay: float, parameters: Any) -> Any:
    """Read the mean of the parameters; before the first update they are their own."""
    if not int(state.num_updates):
        return parameters
    weight = 1 - decay ** int(state.num_updates)
    return jax.tree.map(lambda mean: (mean / weight).astype(mean.dtype), state.mean)
