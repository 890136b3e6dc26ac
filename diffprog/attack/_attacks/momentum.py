"""Iterated steps along a gathered gradient, for attacks that shall succeed on other networks too."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack._attacks.directions import (
    composed,
    input_diversity,
    nesterov,
    translation_invariant,
    variance_tuned,
)
from diffprog.attack._attacks.fast_gradient import project, step_length, step_lengths, stopped
from diffprog.attack._engine import border
from diffprog.attack._engine.method import Method
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._losses import cross_entropy, of_label
from diffprog.attack._norms import Norm, l2, linf


def mi_fgsm(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array | None = None,
    norm: Norm = linf,
    epsilon=8 / 255,
    max_steps: int = 10,
    step_size=None,
    decay: float = 1.0,
    gradient_transforms: tuple = (),
    loss: Callable = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """MI-FGSM (Dong et al. 2018, algorithm 1): steps along a sum of all gradients so far, from the image itself.

    Each gradient is divided by the mean of its magnitudes, as in the authors' program; the paper divides by their sum,
    which is the same but for how far `ahead` looks. A gradient of zero adds nothing. Unlike in the paper, the best
    iterate of each image is returned, not the last.

    step_size: length of a step; epsilon / steps if left out.
    decay:     what remains of the sum in each step; 0 forgets it.
    parts:     what the gradient is taken of, composed from left to right: `ahead()`, `varied()`, `diverse()`,
               `smoothed()` of `diffprog.attack._attacks.directions`. `varied` and `diverse` draw, and need a key.

    Other arguments and errors are those of `pgd`.
    """
    return _search(
        "mi-fgsm",
        model,
        images,
        labels,
        key,
        norm,
        epsilon,
        max_steps,
        step_size,
        decay,
        gradient_transforms,
        loss,
        options,
    )


def ni_fgsm(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array | None = None,
    norm: Norm = linf,
    epsilon=8 / 255,
    max_steps: int = 10,
    step_size=None,
    decay: float = 1.0,
    loss: Callable = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """NI-FGSM (Lin et al. 2020, eq. 6 to 8): `mi_fgsm` with Nesterov's gradient, where the momentum leads."""
    return _search(
        "ni-fgsm", model, images, labels, key, norm, epsilon, max_steps, step_size, decay, (nesterov(),), loss, options
    )


def vmi_fgsm(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon=8 / 255,
    max_steps: int = 10,
    step_size=None,
    decay: float = 1.0,
    num_samples: int = 5,
    beta: float = 1.5,
    loss: Callable = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """VMI-FGSM (Wang & He 2021, algorithm 1): `mi_fgsm` with the gradient corrected by how it varied around the point
    before, at `samples` points up to `reach` budgets away."""
    border.checked_counts(num_samples=num_samples)
    return _search(
        "vmi-fgsm",
        model,
        images,
        labels,
        key,
        norm,
        epsilon,
        max_steps,
        step_size,
        decay,
        (variance_tuned(num_samples, beta),),
        loss,
        options,
    )


def di_fgsm(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon=8 / 255,
    max_steps: int = 10,
    step_size=None,
    decay: float = 0.0,
    probability: float = 0.5,
    min_scale: float = 0.9,
    loss: Callable = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """DI-FGSM (Xie et al. 2019): the gradient through a picture that is with `probability` made smaller, by a random
    factor of at least `resize`, and put on black at a random place; with `decay`, M-DI-FGSM. Images are [n, height,
    width, channels]."""
    border.checked_pictures(images)
    return _search(
        "di-fgsm",
        model,
        images,
        labels,
        key,
        norm,
        epsilon,
        max_steps,
        step_size,
        decay,
        (input_diversity(probability, min_scale),),
        loss,
        options,
    )


def ti_fgsm(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array | None = None,
    norm: Norm = linf,
    epsilon=8 / 255,
    max_steps: int = 10,
    step_size=None,
    decay: float = 0.0,
    kernel_size: int = 15,
    num_sigmas: float = 3.0,
    loss: Callable = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """TI-FGSM (Dong et al. 2019): the gradient blurred by a Gaussian of `size` by `size` pixels, `sigmas` standard
    deviations to each side; with `decay`, TI-MI-FGSM. Images are [n, height, width, channels]."""
    border.checked_pictures(images)
    return _search(
        "ti-fgsm",
        model,
        images,
        labels,
        key,
        norm,
        epsilon,
        max_steps,
        step_size,
        decay,
        (translation_invariant(kernel_size, num_sigmas),),
        loss,
        options,
    )


def _search(
    name, model, images, labels, key, norm, epsilon, max_steps, step_size, decay, gradient_transforms, loss, options
):
    border.checked_counts(max_steps=max_steps)
    border.checked_norm(norm, (linf, l2))
    given = step_lengths(step_size, 1 / max_steps), np.float32(decay)
    return search(
        model,
        images,
        labels,
        _momentum(name, norm, of_label(loss), tuple(gradient_transforms)),
        max_steps=max_steps,
        key=key,
        epsilon=epsilon,
        given=given,
        **options,
    )


class Gathered(NamedTuple):
    point: jax.Array
    momentum: jax.Array  # the sum of gradients
    coasting: jax.Array  # the step along what remains of it
    variation: jax.Array  # of the gradient around the point before


@lru_cache
def _momentum(name, norm, loss, gradient_transforms):
    def start(example, given):
        nothing = jnp.zeros_like(example.image)
        return Gathered(example.image, nothing, nothing, nothing)

    def learn(example, given, state, view):
        lengths, decay = given
        length = step_length(lengths, example)
        kernel_size = jnp.mean(jnp.abs(view.gradient))
        momentum = decay * state.momentum + view.gradient / jnp.where(kernel_size > 0, kernel_size, 1)
        moved = state.point + length * norm.steepest(momentum, stopped(momentum, state.point, example))
        variation = state.variation if view.extra is None else view.extra
        return Gathered(project(norm, moved, example), momentum, length * decay * momentum, variation)

    return Method(name, start, learn, composed(gradient_transforms), loss, norm)
