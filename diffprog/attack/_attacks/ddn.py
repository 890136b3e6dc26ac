"""DDN, the decoupled direction and norm attack."""

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
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import run_attack
from diffprog.attack._losses import cross_entropy
from diffprog.attack._norms import l2


@documents_options
def ddn(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    max_steps: int = 100,
    init_norm: float = 1.0,
    gamma: float = 0.05,
    levels: int | None = 256,
    **options: Unpack[SteeredOptions],
) -> AttackResult:
    """Find the minimum perturbation in L2 by decoupled direction and norm.

    The direction of the perturbation follows the gradient of the cross-entropy; its length shrinks by `gamma` after a
    success and grows by as much after a failure. Steps along the unit gradient shrink from 1 to 0.01 as half a cosine,
    as in the authors' program. A zero gradient is replaced by a random direction.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key, for directions in place of zero gradients.
      max_steps: steps of each search.
      init_norm: first length, for pixels in [0, 1].
      gamma: relative change of the length in a step.
      levels: values of a pixel to which every point is rounded, so that a success survives being saved: 256 for files
        of bytes. None rounds nothing, and finds smaller perturbations.
      **options: shared options.

    Returns:
      The smallest success of each image, or the image itself.

    References:
      Rony et al. 2019, algorithm 1.
    """
    settings = parse_options(options)
    validation.check_counts(max_steps=max_steps)
    validation.check_positive(init_norm=init_norm)
    validation.check_fractions(gamma=gamma)
    if levels is not None:
        validation.check_counts(levels=levels)
    has_levels = levels is not None and np.isfinite(np.concatenate([*map(np.ravel, settings.bounds)])).all()
    grid = _grid(*settings.bounds, levels) if has_levels else None
    hyperparameters = *map(np.float32, (max_steps, init_norm, gamma)), grid
    return run_attack(model, images, labels, _spec(), settings, max_steps, hyperparameters, key=key)


def _grid(low, high, levels):
    return np.float32(low), np.float32((high - low) / max(levels - 1, 1))


class State(NamedTuple):
    """A point, and how far the next may be."""

    point: jax.Array
    radius: jax.Array


@factory
def _spec():
    def init(example, hyperparameters):
        _, init_norm, *_ = hyperparameters
        return State(example.image, init_norm * example.pixel_range)

    def update(example, hyperparameters, state, view):
        max_steps, _, gamma, grid = hyperparameters
        length = example.pixel_range * cosine_schedule(1.0, 0.01, view.step, max_steps)
        perturbation = state.point + length * unit_gradient(l2, view.gradient, example, view.key) - example.image
        radius = state.radius * (1 + jnp.where(view.is_adversarial, -gamma, gamma))
        size = l2.size(perturbation)
        point = example.image + perturbation * radius / jnp.where(size > 0, size, 1)
        if grid is not None:
            low, level = grid
            point = low + level * jnp.round((point - low) / level)
        return State(example.clip(point), radius)

    return AttackSpec("ddn", init, update, query_gradient, cross_entropy, l2, smaller_norm)
