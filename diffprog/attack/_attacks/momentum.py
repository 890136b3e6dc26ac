"""Iterated steps along accumulated gradients, for attacks that shall succeed on other networks too."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog.attack._attacks.fast_gradient import step_size_of
from diffprog.attack._attacks.gradient_transforms import (
    GradientTransform,
    input_diversity,
    nesterov,
    transformed_query,
    translation_invariant,
    variance_tuned,
)
from diffprog.attack._engine import validation
from diffprog.attack._engine.method import AttackSpec
from diffprog.attack._engine.options import Options, documents_options, parse_options
from diffprog.attack._engine.oracle import Model
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import run_attack
from diffprog.attack._losses import cross_entropy
from diffprog.attack._norms import Norm, l2, linf


@documents_options
def mi_fgsm(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 10,
    step_size: ArrayLike | None = None,
    decay: float = 1.0,
    gradient_transforms: Sequence[GradientTransform] = (),
    loss: Callable[..., jax.Array] = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by MI-FGSM: steps along a decaying sum of all gradients so far, from the image itself.

    Each gradient is divided by the mean of its magnitudes, as in the authors' program; the paper divides by their sum,
    which matters only to how far `nesterov` looks ahead. Unlike in the paper, the best iterate is returned.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key; needed by `variance_tuned` and `input_diversity`, which draw.
      norm: `linf` or `l2`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: steps of each search.
      step_size: length of a step in the norm, or one per image (n,); epsilon / max_steps by default.
      decay: what remains of the sum in each step; 0 forgets it.
      gradient_transforms: what the gradient goes through, from left to right: `nesterov()`, `variance_tuned()`,
        `input_diversity()`, `translation_invariant()`.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best iterate of each image: a success before a failure, then the larger loss.

    References:
      Dong et al. 2018, algorithm 1.
    """
    arguments = key, norm, epsilon, max_steps, step_size, decay, gradient_transforms, loss
    return _run("mi-fgsm", model, images, labels, *arguments, options)


@documents_options
def ni_fgsm(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 10,
    step_size: ArrayLike | None = None,
    decay: float = 1.0,
    loss: Callable[..., jax.Array] = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by NI-FGSM: `mi_fgsm` with Nesterov's gradient, taken where the momentum leads.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: not needed; nothing is drawn.
      norm: `linf` or `l2`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: steps of each search.
      step_size: length of a step in the norm, or one per image (n,); epsilon / max_steps by default.
      decay: what remains of the sum of gradients in each step.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best iterate of each image: a success before a failure, then the larger loss.

    References:
      Lin et al. 2020, eq. 6 to 8.
    """
    arguments = key, norm, epsilon, max_steps, step_size, decay, (nesterov(),), loss
    return _run("ni-fgsm", model, images, labels, *arguments, options)


@documents_options
def vmi_fgsm(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 10,
    step_size: ArrayLike | None = None,
    decay: float = 1.0,
    num_samples: int = 5,
    beta: float = 1.5,
    loss: Callable[..., jax.Array] = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by VMI-FGSM: `mi_fgsm` with the gradient corrected by its variation around the previous point.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key, which decides the points around.
      norm: `linf` or `l2`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: steps of each search.
      step_size: length of a step in the norm, or one per image (n,); epsilon / max_steps by default.
      decay: what remains of the sum of gradients in each step.
      num_samples: points around the previous one.
      beta: how far away they are in each element, at most, in budgets.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best iterate of each image: a success before a failure, then the larger loss.

    References:
      Wang & He 2021, algorithm 1.
    """
    validation.check_counts(num_samples=num_samples)
    arguments = key, norm, epsilon, max_steps, step_size, decay, (variance_tuned(num_samples, beta),), loss
    return _run("vmi-fgsm", model, images, labels, *arguments, options)


@documents_options
def di_fgsm(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 10,
    step_size: ArrayLike | None = None,
    decay: float = 0.0,
    probability: float = 0.5,
    min_scale: float = 0.9,
    loss: Callable[..., jax.Array] = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by DI-FGSM: the gradient goes through images that are randomly shrunk and put on black.

    Args:
      model: (images (n, height, width, channels)) -> logits (n, classes).
      images: (n, height, width, channels), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key, which decides scales and places.
      norm: `linf` or `l2`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: steps of each search.
      step_size: length of a step in the norm, or one per image (n,); epsilon / max_steps by default.
      decay: what remains of the sum of gradients in each step; above 0 it is M-DI-FGSM.
      probability: of an image to be shrunk, in each step.
      min_scale: smallest factor by which it is shrunk, at most 1.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best iterate of each image: a success before a failure, then the larger loss.

    References:
      Xie et al. 2019, section 3.2.
    """
    validation.check_pictures(images)
    arguments = key, norm, epsilon, max_steps, step_size, decay, (input_diversity(probability, min_scale),), loss
    return _run("di-fgsm", model, images, labels, *arguments, options)


@documents_options
def ti_fgsm(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 10,
    step_size: ArrayLike | None = None,
    decay: float = 0.0,
    kernel_size: int = 15,
    num_sigmas: float = 3.0,
    loss: Callable[..., jax.Array] = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by TI-FGSM: the gradient is blurred, in effect the mean gradient of shifted images.

    Args:
      model: (images (n, height, width, channels)) -> logits (n, classes).
      images: (n, height, width, channels), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: not needed; nothing is drawn.
      norm: `linf` or `l2`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: steps of each search.
      step_size: length of a step in the norm, or one per image (n,); epsilon / max_steps by default.
      decay: what remains of the sum of gradients in each step; above 0 it is TI-MI-FGSM.
      kernel_size: side of the Gaussian kernel in pixels, odd.
      num_sigmas: standard deviations from its middle to its ends.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best iterate of each image: a success before a failure, then the larger loss.

    References:
      Dong et al. 2019, eq. 7.
    """
    validation.check_pictures(images)
    arguments = key, norm, epsilon, max_steps, step_size, decay, (translation_invariant(kernel_size, num_sigmas),), loss
    return _run("ti-fgsm", model, images, labels, *arguments, options)


def _run(name, model, images, labels, key, norm, epsilon, max_steps, step_size, decay, transforms, loss, options):
    validation.check_counts(max_steps=max_steps)
    validation.check_norm(norm, (linf, l2))
    spec, settings = _spec(name, norm, tuple(transforms))._replace(loss=loss), parse_options(options)
    validation.check_nonnegative(decay=decay)
    hyperparameters = step_size_of(step_size, 1 / max_steps, images), np.float32(decay)
    return run_attack(model, images, labels, spec, settings, max_steps, hyperparameters, key=key, epsilon=epsilon)


class State(NamedTuple):
    """A point, and what is remembered of the gradients."""

    point: jax.Array
    momentum: jax.Array  # the decaying sum of gradients
    coasting: jax.Array  # the step along what remains of it
    variation: jax.Array  # of the gradient around the previous point


@factory
def _spec(name, norm, transforms):
    def init(example, hyperparameters):
        zero = jnp.zeros_like(example.image)
        return State(example.image, zero, zero, zero)

    def update(example, hyperparameters, state, view):
        step_size, decay = hyperparameters
        length = step_size.of(example)
        size = jnp.mean(jnp.abs(view.gradient))
        momentum = decay * state.momentum + view.gradient / jnp.where(size > 0, size, 1)
        direction = norm.steepest(momentum, example.blocked(momentum, state.point))
        point = example.project(norm, state.point + length * direction)
        variation = state.variation if view.extras is None else view.extras
        return State(point, momentum, length * decay * momentum, variation)

    return AttackSpec(name, init, update, transformed_query(transforms), norm=norm)
