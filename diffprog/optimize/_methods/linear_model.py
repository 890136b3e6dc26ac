"""Residuals as a linear function of a step: the step that makes them smallest, in a trust region and in a box.

The Jacobian is factored as it is, by QR and by the singular values of the triangle: its product with itself, J'J, would
square the condition, and a rank below n would be lost in rounding.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffprog.optimize._methods.secular import damping
from diffprog.optimize._search.oracle import Oracle


class LinearModel(NamedTuple):
    """r + J s over scaled steps D s, factored: J / D = Q U diag(values) V.

    Attributes:
      jacobian: (m, n), with columns of 0 for parameters that are held.
      scale: (n,), D.
      basis: (m, k), Q U.
      values: (k,), the singular values; those that are rounding alone are 0.
      directions: (k, n), V.
    """

    jacobian: jax.Array
    scale: jax.Array
    basis: jax.Array
    values: jax.Array
    directions: jax.Array

    @classmethod
    def of(cls, jacobian: jax.Array, scale: jax.Array, held: jax.Array | None = None) -> "LinearModel":
        """Factor a Jacobian.

        Args:
          jacobian: (m, n).
          scale: (n,), positive.
          held: (n,), the parameters that must not move; None for none.

        Returns:
          The model.
        """
        if held is not None:
            jacobian = jnp.where(held, 0, jacobian)
        basis, triangle = jnp.linalg.qr(jacobian / scale)
        left, values, directions = jnp.linalg.svd(triangle, full_matrices=False)
        limit = max(jacobian.shape) * jnp.finfo(jacobian.dtype).eps * values[0]
        return cls(jacobian, scale, basis @ left, jnp.where(values > limit, values, 0), directions)

    def coordinates(self, residuals: jax.Array) -> jax.Array:
        """Compute (k,), the part of residuals that a step can change."""
        return jnp.where(self.values > 0, self.basis.T @ residuals, 0)

    def damping(self, residuals: jax.Array, radius: jax.Array) -> jax.Array:
        """Compute the damping t at which the step for the residuals has |D s| = radius; 0 if it is shorter anyway."""
        numerators, squares = self.values * self.coordinates(residuals), self.values**2
        return damping(numerators, squares, jnp.zeros_like(radius), radius)

    def step(self, residuals: jax.Array, t: jax.Array | float) -> jax.Array:
        """Compute the step s (n,) that makes |r + J s|^2 + t |D s|^2 smallest, and is itself the shortest."""
        squares = jnp.where(self.values > 0, self.values**2 + t, 1)
        return -(self.directions.T @ (self.values / squares * self.coordinates(residuals))) / self.scale


def held_at_bounds(oracle: Oracle, point: jax.Array, residuals: jax.Array, jacobian: jax.Array) -> jax.Array | None:
    """Tell which parameters are on a bound that the gradient pushes them through: (n,), or None without bounds."""
    if not oracle.is_bounded:
        return None
    gradient = jacobian.T @ residuals
    return ((point <= oracle.lower) & (gradient >= 0)) | ((point >= oracle.upper) & (gradient <= 0))


def step_in_box(
    oracle: Oracle, point: jax.Array, residuals: jax.Array, model: LinearModel, radius: jax.Array
) -> tuple[jax.Array, jax.Array, LinearModel]:
    """Compute the step of the linear model in a trust region and in the box.

    A parameter that the step takes through a bound is put on it, and the step of the others is computed anew, until
    none is left: an active set that only grows, at most n times.

    Args:
      oracle: with the box.
      point: (n,), in it.
      residuals: (m,), at the point.
      model: of the residuals; parameters on a bound that they must not cross are held.
      radius: of the trust region, infinite for none.

    Returns:
      The step (n,), its damping, and the model of the parameters that stay free.
    """
    t = model.damping(residuals, radius)
    step = model.step(residuals, t)
    if not oracle.is_bounded:
        return step, t, model

    def through(step, fixed):
        return ((point + step < oracle.lower) | (point + step > oracle.upper)) & ~fixed

    def goes_on(carry):
        step, _, fixed, _ = carry
        return jnp.any(through(step, fixed))

    def turn(carry):
        step, _, fixed, _ = carry
        fixed = fixed | through(step, fixed)
        put = jnp.where(fixed, oracle.clip(point + step) - point, 0)
        free = LinearModel.of(model.jacobian, model.scale, fixed)
        rest = residuals + model.jacobian @ put
        t = free.damping(rest, radius)
        return jnp.where(fixed, put, free.step(rest, t)), t, fixed, free

    nothing = jnp.zeros(point.shape, bool)
    step, t, _, model = jax.lax.while_loop(goes_on, turn, (step, t, nothing, model))
    return step, t, model


def column_scale(jacobian: jax.Array) -> jax.Array:
    """Compute the norms (n,) of the columns, and 1 for a column of 0."""
    norms = jnp.linalg.norm(jacobian, axis=0)
    return jnp.where(norms > 0, norms, 1)


def half_square(residuals: jax.Array) -> jax.Array:
    """Compute half the sum of squares."""
    return jnp.vdot(residuals, residuals) / 2


def rounding_of_residuals(point: jax.Array, residuals: jax.Array, jacobian: jax.Array) -> jax.Array:
    """Estimate how much of half the sum of squares rounding may be: of the residuals', and the parameters' digits."""
    size = jnp.abs(jacobian) @ jnp.abs(point) + jnp.abs(residuals)
    return jnp.finfo(size.dtype).eps * jnp.linalg.norm(residuals) * jnp.linalg.norm(size)
