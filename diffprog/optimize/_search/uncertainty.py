"""How sure the parameters of a least-squares fit are."""

import jax
import jax.numpy as jnp


@jax.jit
def uncertainty(residuals: jax.Array, jacobian: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute the covariance of the parameters, to first order.

    Args:
      residuals: (m,) at the minimum.
      jacobian: (m, n) there.

    Returns:
      s^2 (J'J)^-1, (n, n), with s^2 the sum of squares over m - n, and the square roots of its diagonal. J'J is not
      formed, which would square the condition: columns of norm 1 are divided by their QR factors.
    """
    num_residuals, num_parameters = jacobian.shape
    if num_residuals <= num_parameters:
        nothing = jnp.full((num_parameters, num_parameters), jnp.nan, jacobian.dtype)
        return nothing, jnp.diagonal(nothing)
    norms = jnp.linalg.norm(jacobian, axis=0)
    scale = jnp.where(norms > 0, norms, 1)
    factor = jnp.linalg.qr(jacobian / scale, mode="r")
    inverse = jax.scipy.linalg.solve_triangular(factor, jnp.eye(num_parameters, dtype=factor.dtype))
    variance = jnp.vdot(residuals, residuals) / (num_residuals - num_parameters)
    inverse = inverse / scale[:, None]
    covariance = variance * (inverse @ inverse.T)
    return covariance, jnp.sqrt(jnp.diagonal(covariance))
