"""The sigma-zero attack."""

from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog.attack._engine import validation
from diffprog.attack._engine.bisection import cosine_schedule
from diffprog.attack._engine.method import AttackSpec, smaller_norm
from diffprog.attack._engine.options import SteeredOptions, documents_options, parse_options
from diffprog.attack._engine.oracle import Model, query_gradient
from diffprog.attack._engine.per_image import positive
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import run_attack
from diffprog.attack._norms import l0


@documents_options
def sigma_zero(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    max_steps: int = 1000,
    step_size: ArrayLike = 1.0,
    sigma: float = 1e-3,
    threshold: float = 0.3,
    threshold_step: float = 0.01,
    **options: Unpack[SteeredOptions],
) -> AttackResult:
    """Find the minimum perturbation in L0 by descent on a smooth count of elements.

    It minimizes max(-lead, 0) + mean(r^2 / (r^2 + sigma)) with Adam, whose gradients are divided by their largest
    element; what is smaller than a threshold is set to zero after each step. The threshold rises after a success and
    falls after a failure. Steps fall to a tenth of the first as half a cosine. As in the authors' program, Adam makes
    the steps; the paper's algorithm shows plain descent. L0 counts elements of the array.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: not needed; nothing is drawn.
      max_steps: steps of each search.
      step_size: the first, or one per image (n,), for pixels in [0, 1].
      sigma: how sharply the smooth count tells zero from the rest, in squares of a pixel's range.
      threshold: the first, for pixels in [0, 1].
      threshold_step: fraction of a step by which it changes.
      **options: shared options.

    Returns:
      The smallest success of each image, or the image itself.

    References:
      Cinà et al. 2025, algorithm 1.
    """
    validation.check_counts(max_steps=max_steps)
    validation.check_positive(sigma=sigma, threshold=threshold, threshold_step=threshold_step)
    length, limits = positive("step_size", step_size, images), map(np.float32, (sigma, threshold, threshold_step))
    hyperparameters = np.float32(max_steps), length, *limits
    settings = parse_options(options)
    return run_attack(model, images, labels, _spec(), settings, max_steps, hyperparameters, key=key)


class State(NamedTuple):
    """A point, Adam's moments, and the threshold as a fraction of a pixel's range."""

    point: jax.Array
    adam: Any  # Optax's state
    threshold: jax.Array


@factory
def _spec():
    adam = optax.scale_by_adam()

    def init(example, hyperparameters):
        *_, threshold, _ = hyperparameters
        return State(example.image, adam.init(example.image), threshold)

    def update(example, hyperparameters, state, view):
        max_steps, step_size, sigma, _, threshold_step = hyperparameters
        pixel_range, is_adversarial = example.pixel_range, view.is_adversarial
        perturbation = (state.point - example.image) / pixel_range
        count_gradient = 2 * perturbation * sigma / (perturbation**2 + sigma) ** 2 / perturbation.size
        gradient = count_gradient - jnp.where(is_adversarial, 0, view.gradient * pixel_range)
        largest = jnp.max(jnp.abs(gradient))
        step, adam_state = adam.update(gradient / jnp.maximum(largest, 1e-12), state.adam)
        length = cosine_schedule(step_size, step_size / 10, view.step, max_steps)
        point = example.clip(state.point - pixel_range * length * step)
        change = jnp.where(is_adversarial, threshold_step, -threshold_step) * length
        threshold = jnp.clip(state.threshold + change, 0, 1)
        is_large = jnp.abs(point - example.image) >= threshold * pixel_range
        return State(jnp.where(is_large, point, example.image), adam_state, threshold)

    return AttackSpec("sigma_zero", init, update, query_gradient, norm=l0, better=smaller_norm)
