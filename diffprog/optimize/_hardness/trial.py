"""Heavy ball on trial: do the settings that are best for a quadratic hold for this function."""

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.optimize._curvature import rates
from diffprog.optimize._search.oracle import Counts, Oracle

NUM_STEPS = 600
NUM_STARTS = 64


def heavy_ball_trial(oracle: Oracle, minimum: jax.Array, reach: np.ndarray, curvatures: tuple[float, float]) -> str:
    """Run heavy ball and gradient descent from many starts, with the best settings for a range of curvatures.

    Args:
      oracle: the function's.
      minimum: (n,), around which the starts are drawn.
      reach: (n,), half of how far they are.
      curvatures: the smallest and the largest.

    Returns:
      A clause if heavy ball fails where gradient descent does not; else nothing.
    """
    low, high = curvatures
    if not 0 < low < high < np.inf:
        return ""
    drawn = jax.random.uniform(jax.random.key(0), (NUM_STARTS, len(minimum)), minimum.dtype, -2, 2)
    slow, fast = rates.best("gradient descent", low, high), rates.best("heavy ball", low, high)
    settings = jnp.asarray([[slow.alpha, 0.0], [fast.alpha, fast.beta]], minimum.dtype)
    starts = minimum + drawn * jnp.asarray(reach, minimum.dtype)
    first, ends = (np.asarray(x, np.float64) for x in _run(oracle, starts, settings))
    failed = ~(ends - ends.min() <= 1e-4 * (first - ends.min()))  # NaN has failed, too
    only_ball = int(np.sum(failed[1] & ~failed[0]))
    if not only_ball:
        return ""
    return (
        f"; heavy ball at its best settings for a quadratic, alpha {fast.alpha:.4g} and beta {fast.beta:.4g}, does not "
        f"converge from {only_ball} of {NUM_STARTS} starts from which gradient descent does"
    )


@jax.jit
def _run(oracle, starts, settings):
    values = jax.vmap(lambda x: oracle.value(x, Counts.none())[0])
    gradient = jax.vmap(lambda x: oracle.value_and_gradient(x, Counts.none())[1])

    def method(alpha, beta):
        def step(_, carry):
            x, velocity = carry
            velocity = beta * velocity + gradient(x)
            return x - alpha * velocity, velocity

        x, _ = jax.lax.fori_loop(0, NUM_STEPS, step, (starts, jnp.zeros_like(starts)))
        return values(x)

    return values(starts), jax.vmap(method)(settings[:, 0], settings[:, 1])
