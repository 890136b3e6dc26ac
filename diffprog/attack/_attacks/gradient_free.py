"""Descent on a gradient that is estimated from values of the loss alone: SPSA and NES."""

from collections.abc import Callable
from typing import Unpack

import jax
import numpy as np
from jax.typing import ArrayLike

from diffprog._util import draws
from diffprog.attack._attacks.fast_gradient import descent, step_size_of
from diffprog.attack._engine import validation
from diffprog.attack._engine.options import QueryOptions, documents_options, parse_options
from diffprog.attack._engine.oracle import Model, query_differences
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import run_attack
from diffprog.attack._losses import margin
from diffprog.attack._norms import Norm, l2, linf


@documents_options
def spsa(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 40,
    step_size: ArrayLike | None = None,
    num_samples: int = 128,
    delta: float = 0.01,
    loss: Callable[..., jax.Array] = margin,
    **options: Unpack[QueryOptions],
) -> AttackResult:
    """Attack by simultaneous perturbation stochastic approximation, without gradients.

    The gradient is estimated as the mean over random sign vectors u of
    u (loss(x + delta u) - loss(x - delta u)) / (2 delta). It is followed as in `bim`; the paper uses Adam. All points
    that the model is queried about lie within the bounds, unlike the paper's. A step costs 1 + 2 num_samples queries.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key, which decides the directions.
      norm: `linf` or `l2`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: steps of each search.
      step_size: length of a step in the norm, or one per image (n,); epsilon / 4 by default.
      num_samples: directions per step.
      delta: distance of the points around, in pixel values. If too short, rounding drowns the difference; if too
        long, the loss bends.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best iterate of each image: a success before a failure, then the larger loss.

    References:
      Uesato et al. 2018, section 4, algorithm 1.
    """
    validation.check_positive(delta=delta)
    arguments = key, norm, epsilon, max_steps, step_size, num_samples, delta, loss
    return _run("spsa", draws.signs, model, images, labels, *arguments, options)


@documents_options
def nes(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 40,
    step_size: ArrayLike | None = None,
    num_samples: int = 128,
    sigma: float = 0.001,
    loss: Callable[..., jax.Array] = margin,
    **options: Unpack[QueryOptions],
) -> AttackResult:
    """Attack by natural evolution strategies: `spsa` with normal directions.

    Points that would leave the bounds are clipped.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key, which decides the directions.
      norm: `linf` or `l2`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: steps of each search.
      step_size: length of a step in the norm, or one per image (n,); epsilon / 4 by default.
      num_samples: directions per step, half the paper's population (there 50).
      sigma: standard deviation of the points around, in pixel values.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best iterate of each image: a success before a failure, then the larger loss.

    References:
      Ilyas et al. 2018, section 2.1, algorithm 1.
    """
    validation.check_positive(sigma=sigma)
    arguments = key, norm, epsilon, max_steps, step_size, num_samples, sigma, loss
    return _run("nes", draws.normal, model, images, labels, *arguments, options)


def _run(
    name, draw, model, images, labels, key, norm, epsilon, max_steps, step_size, num_samples, distance, loss, options
):
    validation.check_counts(num_samples=num_samples)
    query = query_differences(draw, num_samples)
    spec = descent(name, validation.check_norm(norm, (linf, l2)), False, query)
    spec = spec._replace(loss=loss, queries_per_step=1 + 2 * num_samples)
    settings, hyperparameters = parse_options(options), (step_size_of(step_size, 1 / 4, images), np.float32(distance))
    return run_attack(model, images, labels, spec, settings, max_steps, hyperparameters, key=key, epsilon=epsilon)
