"""The formulas: a map (positions) from a layer's values and the score's gradient there, of one example.

Channels are the last axis. Sums are over positions or channels, and nothing is rescaled.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Formula = Callable[[jax.Array, jax.Array], jax.Array]


def _over_positions(values, reduce):
    return reduce(values, axis=tuple(range(values.ndim - 1)), keepdims=True)


def _ratio(numerator, denominator):
    """Divide; 0 / 0 is 0, for a channel that is off everywhere."""
    is_zero = denominator == 0
    return jnp.where(is_zero, 0, numerator / jnp.where(is_zero, 1, denominator))


def grad(values: jax.Array, slopes: jax.Array) -> jax.Array:
    """Weigh channels by the mean of the gradient over positions (Grad-CAM)."""
    return jnp.sum(_over_positions(slopes, jnp.mean) * values, axis=-1)


def hires(values: jax.Array, slopes: jax.Array) -> jax.Array:
    """Multiply the gradient by the values, position by position (HiResCAM)."""
    return jnp.sum(slopes * values, axis=-1)


def plus_plus(values: jax.Array, slopes: jax.Array) -> jax.Array:
    """Weigh channels by their positive gradients, of exp(score), divided by exp(score) (Grad-CAM++).

    Of exp(score) in a piecewise linear network, the second and third derivative are exp(score) times the square and the
    cube of the score's gradient, so that equation 19 of the paper holds; of the score itself they are 0.
    """
    whole = _over_positions(values, jnp.sum)
    alpha = _ratio(slopes**2, 2 * slopes**2 + whole * slopes**3)
    return jnp.sum(_over_positions(alpha * jax.nn.relu(slopes), jnp.sum) * values, axis=-1)


def layer(values: jax.Array, slopes: jax.Array) -> jax.Array:
    """Multiply the positive part of the gradient by the values, position by position (Layer-CAM)."""
    return jnp.sum(jax.nn.relu(slopes) * values, axis=-1)


def x_grad(values: jax.Array, slopes: jax.Array) -> jax.Array:
    """Weigh channels by the mean of the gradient over positions, each weighing as much as its value (XGrad-CAM)."""
    weights = _ratio(_over_positions(slopes * values, jnp.sum), _over_positions(values, jnp.sum))
    return jnp.sum(weights * values, axis=-1)


def eigen(values: jax.Array, slopes: jax.Array | None = None) -> jax.Array:
    """Project the values on their first principal direction, not centered (Eigen-CAM); the score plays no part.

    The sign of a singular vector means nothing: here the map's sum is positive.
    """
    positions = values.shape[:-1]
    left, sizes, _ = jnp.linalg.svd(values.reshape(-1, values.shape[-1]), full_matrices=False)
    found = left[:, 0] * sizes[0]
    return jnp.where(found.sum() < 0, -found, found).reshape(positions)


FORMULAS: dict[str, Formula] = {
    "grad": grad,
    "hires": hires,
    "plus_plus": plus_plus,
    "layer": layer,
    "x_grad": x_grad,
    "eigen": eigen,
}
