"""FMN, the fast minimum-norm attack."""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog.attack._engine import validation
from diffprog.attack._engine.bisection import cosine_schedule, unit_gradient
from diffprog.attack._engine.method import AttackSpec, smaller_norm
from diffprog.attack._engine.options import SteeredOptions, documents_options, parse_options
from diffprog.attack._engine.oracle import Model, query_gradient
from diffprog.attack._engine.per_image import positive
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import run_attack
from diffprog.attack._norms import Norm, l0, l1, l2, linf


@documents_options
def fmn(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    norm: Norm = l2,
    max_steps: int = 100,
    step_size: ArrayLike = 1.0,
    gamma: float = 0.05,
    **options: Unpack[SteeredOptions],
) -> AttackResult:
    """Find the minimum perturbation by projected steps in a ball that follows the boundary.

    A step goes along the gradient of the lead of another class, and is projected onto a ball. Until the first success
    the ball reaches to where the boundary would be if the lead were linear; then it shrinks by `gamma` after a success
    and grows by as much after a failure (in L0 by at least one element). Step and gamma fall as half a cosine, to a
    hundredth and a fiftieth. A zero gradient is replaced by a random direction.

    Unlike in the paper the first ball reaches beyond that boundary by `gamma`, since a ball that ends at it may never
    cross it. The projection is onto ball and box together, so that the ball is used up where the box is in the way.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key, for directions in place of zero gradients.
      norm: to be made small, `l0`, `l1`, `l2` or `linf`.
      max_steps: steps of each search.
      step_size: length of the first step, or one per image (n,), in L2 whatever the norm, for pixels in [0, 1].
      gamma: first relative change of the ball.
      **options: shared options.

    Returns:
      The smallest success of each image, or the image itself.

    References:
      Pintor et al. 2021, algorithm 1.
    """
    norm = validation.check_norm(norm, (l0, l1, l2, linf))
    validation.check_counts(max_steps=max_steps)
    validation.check_fractions(gamma=gamma)
    settings, length = parse_options(options), positive("step_size", step_size, images)
    hyperparameters = np.float32(max_steps), length, np.float32(gamma)
    return run_attack(model, images, labels, _spec(norm), settings, max_steps, hyperparameters, key=key)


class State(NamedTuple):
    """A point, its ball, and the smallest success so far."""

    point: jax.Array
    epsilon: jax.Array
    smallest: jax.Array


@factory
def _spec(norm):
    def init(example, hyperparameters):
        return State(example.image, jnp.ones(()), jnp.float32(jnp.inf))

    def next_num_elements(state, is_adversarial, smallest, gamma):
        fewer = jnp.minimum(jnp.minimum(state.epsilon - 1, jnp.floor(state.epsilon * (1 - gamma))), smallest)
        more = jnp.maximum(state.epsilon + 1, jnp.floor(state.epsilon * (1 + gamma)))
        return jnp.maximum(jnp.where(is_adversarial, fewer, more), 0)

    def next_radius(example, state, view, size, smallest, gamma):
        slope = norm.dual(jnp.where(example.blocked(view.gradient, state.point), 0, view.gradient))
        to_boundary = size + jnp.abs(view.value) / jnp.maximum(slope, 1e-12)
        larger = jnp.where(smallest < jnp.inf, state.epsilon, to_boundary) * (1 + gamma)
        return jnp.where(view.is_adversarial, jnp.minimum(state.epsilon * (1 - gamma), smallest), larger)

    def update(example, hyperparameters, state, view):
        max_steps, step_size, gamma = hyperparameters
        step_size = example.pixel_range * cosine_schedule(step_size, step_size / 100, view.step, max_steps)
        gamma = cosine_schedule(gamma, gamma / 50, view.step, max_steps)
        size = norm.size(state.point - example.image)
        smallest = jnp.where(view.is_adversarial, jnp.minimum(state.smallest, size), state.smallest)
        if norm is l0:
            epsilon = next_num_elements(state, view.is_adversarial, smallest, gamma)
        else:
            epsilon = next_radius(example, state, view, size, smallest, gamma)
        room = jnp.maximum(example.image - example.lower, example.upper - example.image)
        whole_box = norm.size(jnp.where(jnp.isfinite(room), room, 0))
        epsilon = jnp.where(jnp.all(jnp.isfinite(room)), jnp.minimum(epsilon, whole_box), epsilon)
        moved = state.point + step_size * unit_gradient(l2, view.gradient, example, view.key)
        return State(example._replace(epsilon=epsilon).project(norm, moved), epsilon, smallest)

    return AttackSpec("fmn", init, update, query_gradient, norm=norm, better=smaller_norm)
