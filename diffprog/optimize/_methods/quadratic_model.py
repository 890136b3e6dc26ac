"""A function as a quadratic of the step: its lowest point in a trust region, exactly or by conjugate gradients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffprog.optimize._methods.secular import damping
from diffprog.optimize._search.oracle import Counts, HessianProduct

CURVED = 0.5  # the power of the rounding error at which a negative eigenvalue counts, as a part of the largest one


class ModelStep(NamedTuple):
    """What a quadratic model says.

    Attributes:
      step: (n,).
      promised: the decrease of the model along it.
      is_inside: the model is convex, and the step is its minimum, inside the trust region.
      is_curved: the curvature is negative in some direction.
    """

    step: jax.Array
    promised: jax.Array
    is_inside: jax.Array
    is_curved: jax.Array


def exact_step(gradient: jax.Array, hessian: jax.Array, radius: jax.Array) -> ModelStep:
    """Compute the lowest point of g's + s'Hs / 2 with |s| <= radius, also where H is indefinite or singular.

    Args:
      gradient: (n,).
      hessian: (n, n), symmetric.
      radius: of the trust region.

    Returns:
      The step. In More and Sorensen's hard case, where the gradient has no part along the direction of the lowest
      curvature, it goes along that direction to the border.
    """
    eps = jnp.finfo(gradient.dtype).eps
    curvatures, directions = jnp.linalg.eigh(hessian)
    parts = directions.T @ gradient
    largest = jnp.max(jnp.abs(curvatures))
    lowest = curvatures[0]
    # Curvatures above the lowest one, so that a damping that hardly differs from it keeps its digits.
    above = curvatures - lowest
    least = jnp.where(lowest > 0, lowest, jnp.where(largest > 0, eps**2 * largest, 1))
    shift = damping(parts, above, least, radius)
    along = -parts / (above + shift)
    length = jnp.linalg.norm(along)
    is_hard = (lowest < -len(gradient) * eps * largest) & (length < radius)
    rest = jnp.sqrt(jnp.maximum(radius**2 - length**2, 0)) * jnp.where(parts[0] > 0, -1, 1)
    along = along.at[0].add(jnp.where(is_hard, rest, 0))
    promised = -(jnp.vdot(parts, along) + jnp.vdot(curvatures * along, along) / 2)
    is_curved = lowest < -(eps**CURVED) * largest
    is_inside = (lowest > 0) & (shift <= least)
    return ModelStep(directions @ along, promised, is_inside, is_curved)


class _Conjugate(NamedTuple):
    step: jax.Array
    hessian_step: jax.Array
    residual: jax.Array
    direction: jax.Array
    counts: Counts
    iteration: jax.Array
    is_curved: jax.Array
    is_on_border: jax.Array


def truncated_step(
    product: HessianProduct,
    gradient: jax.Array,
    probe: jax.Array,
    radius: jax.Array,
    tolerance: jax.Array,
    counts: Counts,
) -> tuple[ModelStep, Counts]:
    """Lower g's + s'Hs / 2 by conjugate gradients, up to the border of the trust region (Steihaug; Toint).

    Args:
      product: multiplies H by a vector.
      gradient: (n,).
      probe: (n,), the direction that takes the place of a gradient that is 0, as at a saddle: only negative curvature
        is looked for then.
      radius: of the trust region, infinite for none.
      tolerance: the part of the gradient at which what is left of it is small enough.
      counts: what was asked so far.

    Returns:
      The step, to the border along the first direction of negative curvature; and the counts.
    """
    first = jnp.where(jnp.any(gradient != 0), gradient, probe)
    eps = jnp.finfo(gradient.dtype).eps
    # Below rounding, a residual shrinks until its square is 0: that would look like a direction without curvature.
    limit = jnp.maximum(tolerance, eps) * jnp.linalg.norm(first)
    no = jnp.array(False)
    nothing = jnp.zeros_like(gradient)

    def goes_on(c):
        is_open = ~(c.is_curved | c.is_on_border)
        return is_open & (jnp.linalg.norm(c.residual) > limit) & (c.iteration < 2 * len(gradient) + 10)

    def turn(c):
        image, counts = product(c.direction, c.counts)
        curvature = jnp.vdot(c.direction, image)
        size = jnp.linalg.norm(c.direction) * jnp.linalg.norm(image)
        is_curved = curvature <= eps * size
        square = jnp.vdot(c.residual, c.residual)
        length = square / jnp.where(is_curved, 1, curvature)
        is_long = jnp.linalg.norm(c.step + length * c.direction) >= radius
        is_on_border = is_curved | is_long
        # Without a border there is nothing to go to: the step so far, or the direction itself if it is the first.
        to_border = jnp.where(
            jnp.isfinite(radius), _to_border(c.step, c.direction, radius), jnp.where(c.iteration == 0, 1, 0)
        )
        length = jnp.where(is_on_border, to_border, length)
        residual = c.residual + length * image
        ratio = jnp.vdot(residual, residual) / square
        return _Conjugate(
            c.step + length * c.direction,
            c.hessian_step + length * image,
            residual,
            ratio * c.direction - residual,
            counts,
            c.iteration + 1,
            is_curved,
            is_on_border,
        )

    begin = _Conjugate(nothing, nothing, first, -first, counts, jnp.int32(0), no, no)
    end = jax.lax.while_loop(goes_on, turn, begin)
    is_wanted = jnp.any(gradient != 0) | end.is_curved
    step = jnp.where(is_wanted, end.step, 0)
    promised = -(jnp.vdot(gradient, step) + jnp.vdot(step, jnp.where(is_wanted, end.hessian_step, 0)) / 2)
    return ModelStep(step, promised, ~end.is_on_border, end.is_curved), end.counts


def _to_border(step, direction, radius):
    """Solve |step + t direction| = radius for t >= 0, without cancellation."""
    a = jnp.vdot(direction, direction)
    b = jnp.vdot(step, direction)
    c = jnp.maximum(radius**2 - jnp.vdot(step, step), 0)
    root = jnp.sqrt(b**2 + a * c)
    return jnp.where(b > 0, c / jnp.where(b > 0, b + root, 1), (root - b) / a)
