"""One perturbation for all images."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffprog.attack._attacks.fast_gradient import project
from diffprog.attack._attacks.trials import trials, try_out
from diffprog.attack._attacks.universal_training import checked_data, learn
from diffprog.attack._engine import border
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options
from diffprog.attack._losses import cross_entropy
from diffprog.attack._norms import Norm, l2, linf


class Universal(NamedTuple):
    """A perturbation, and what it does to the images from which it was learned."""

    perturbation: np.ndarray  # float32, of the shape of one image, within the budget, strictly
    result: AttackResult
    losses: np.ndarray  # float32 [steps], the mean of each step's batch, before the step; negated with `targeted`


def universal(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon: float = 10 / 255,
    max_steps: int = 200,
    step_size: float | None = None,
    minibatch_size: int = 128,
    loss: Callable = cross_entropy,
    max_loss: float = 9.0,
    **options: Unpack[Options],
) -> Universal:
    """One perturbation that fools the model on most images (the goal of Moosavi-Dezfooli et al. 2017), by projected
    ascent on the mean loss over random batches (Shafahi et al. 2020, algorithm 1).

    Each image's loss counts at most `cap`, as there (eq. 4): no single image decides. Steps follow the norm's steepest
    direction, and their length falls to zero, unlike there, so that the last batches do not decide either.

    norm:       `linf` or `l2`; `epsilon` is one number, in its units. Each image plus the perturbation is brought into
                the bounds and the budget, both strictly.
    step_size:  of the first step, in that norm; epsilon / 10 if left out.
    minibatch:     images per step. `batch`, an option, is the size of the batches in which the result is judged.
    For other images: `apply_universal(model, images, labels, perturbation, norm=..., epsilon=...)`.
    """
    border.checked_norm(norm, (linf, l2))
    border.checked_positive(epsilon=epsilon)
    if step_size is not None:
        border.checked_positive(step_size=step_size)
    data = checked_data(images, labels, **options)
    length = epsilon / 10 if step_size is None else step_size
    ascent = optax.chain(
        optax.stateless(lambda downhill, _: norm.steepest(downhill)),
        optax.scale_by_learning_rate(optax.linear_schedule(length, 0, max_steps)),
    )
    nothing = np.zeros(data.images.shape[1:], np.float32)
    radius, span = border.float32_at_most(epsilon), np.ptp(options.get("bounds", (0.0, 1.0)))
    inside = lambda moved: norm.project(moved, nothing, radius, -span, span)
    make = lambda perturbation, batch, keys: batch.images + perturbation
    found, losses = learn(
        model,
        data,
        make,
        nothing,
        ascent,
        inside,
        key=key,
        max_steps=max_steps,
        minibatch_size=minibatch_size,
        loss=loss,
        max_loss=max_loss,
        **options,
    )
    found = np.asarray(found)
    result = apply_universal(model, images, labels, found, norm=norm, epsilon=epsilon, key=key, **options)
    return Universal(found, result, losses)


def apply_universal(
    model: Callable,
    images,
    labels,
    perturbation,
    *,
    norm: Norm = linf,
    epsilon: float = 10 / 255,
    key=None,
    **options: Unpack[Options],
) -> AttackResult:
    """What a perturbation, of the shape of one image, does to images: each plus it, in the bounds and the budget."""
    images, perturbation = np.asarray(images), np.asarray(perturbation, np.float32)
    if perturbation.shape != images.shape[1:]:
        raise ValueError(
            f"perturbation must have the shape of one image, {images.shape[1:]}; found "
            f"{perturbation.shape}: resize it, or the images"
        )
    method = trials("universal", _add(border.checked_norm(norm, (linf, l2))), norm=norm)
    return try_out(model, images, labels, method, 1, (jnp.asarray(perturbation),), key=key, epsilon=epsilon, **options)


@lru_cache
def _add(norm):
    return lambda example, given, number, key: project(norm, example.image + given[0], example)
