"""Noise of an objective that draws: how large, and where a constant step ends."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._transforms.closures import lift
from diffprog._util.promotion import callers_promotion
from diffprog.optimize import _engine as engines
from diffprog.optimize._hardness.evidence import Difficulty, Landmarks
from diffprog.optimize._search.flat import flatten

NUM_DRAWS = 64


def evidence(objective: Callable[..., Any], parameters: Any, marks: Landmarks, key: jax.Array) -> list[Difficulty]:
    """Measure how the gradient varies from draw to draw at the lowest point.

    Args:
      objective: `objective(parameters, key=key)`.
      parameters: pytree.
      marks: what was measured for one draw.
      key: random key.

    Returns:
      One difficulty, or none if the draws make no difference.
    """
    vector, unflatten = flatten(parameters)
    keys = jax.random.split(key, NUM_DRAWS)
    with callers_promotion():
        program = lift(lambda vector, key: objective(unflatten(vector), key=key), vector, keys[0])
    values, gradients = (np.asarray(x, np.float64) for x in _draws(program, marks.end, keys))
    covariance = float(np.sum(gradients.var(axis=0, ddof=1)))
    spread = float(values.std(ddof=1))
    drop = marks.start_value - marks.value
    largest = marks.advice.largest
    floor = covariance / (2 * largest) if largest > 0 else np.inf  # of the loss, with the step 1 / L
    if not (covariance > 0 and floor > 1e-6 * abs(drop)):
        return []
    return [
        Difficulty(
            "noisy",
            f"the value deviates by {spread:.3g}, the gradient has variance {covariance:.3g}: with step size "
            f"1 / L = {1 / largest:.3g} gradient descent ends about {floor:.3g} above the minimum, at a tenth "
            "of it a tenth as far",
        )
    ]


@jax.jit
def _draws(program, point, keys):
    def one(key):
        with callers_promotion():
            return engines.value_and_grad()(lambda x: jnp.asarray(program(x, key)).astype(x.dtype))(point)

    return jax.lax.map(one, keys)
