"""One perturbation for all images."""

from collections.abc import Callable
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog.attack._attacks.random_search import judged_by_criterion, random_search, run_random_search
from diffprog.attack._attacks.universal_training import ascend, check_data, warn_of_no_gradient
from diffprog.attack._engine import validation
from diffprog.attack._engine.options import Options, documents_options, parse_options
from diffprog.attack._engine.oracle import Model
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._losses import cross_entropy
from diffprog.attack._norms import Norm, l2, linf


class Universal(NamedTuple):
    """A perturbation, and what it does to the images from which it was learned."""

    perturbation: np.ndarray  # float32, of the shape of one image, within the budget, strictly
    result: AttackResult
    losses: np.ndarray  # float32 [max_steps], mean of each step's batch, before the step; negated with `targeted`


@documents_options
def universal(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon: float = 10 / 255,
    max_steps: int = 200,
    step_size: float | None = None,
    minibatch_size: int = 128,
    loss: Callable[..., jax.Array] = cross_entropy,
    max_loss: float = 9.0,
    **options: Unpack[Options],
) -> Universal:
    """Learn one perturbation that fools the model on most images, by projected ascent on the mean loss.

    Steps follow the norm's steepest direction. Unlike in the paper their length falls to zero, so that the last
    batches do not decide. For other images: `apply_universal`.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key, which decides the minibatches.
      norm: `linf` or `l2`.
      epsilon: budget in the norm's units. Each image plus the perturbation is brought into bounds and budget, strictly.
      max_steps: steps.
      step_size: length of the first step in the norm; epsilon / 10 by default.
      minibatch_size: images per step; `batch_size` is for judging the result.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      max_loss: what an image's loss counts at most (eq. 4): no single image decides.
      **options: shared options.

    Returns:
      The perturbation, and what became of each image.

    References:
      Moosavi-Dezfooli et al. 2017 for the goal; Shafahi et al. 2020, algorithm 1.
    """
    settings = parse_options(options)
    norm = validation.check_norm(norm, (linf, l2))
    data = check_data(images, labels, loss, settings)
    radius = _radius(epsilon, norm, data.images, settings)
    length = radius / 10 if step_size is None else step_size
    validation.check_nonnegative(step_size=length)
    optimizer = optax.chain(
        optax.stateless(lambda downhill, _: norm.steepest(downhill)),
        optax.scale_by_learning_rate(optax.linear_schedule(length, 0, max_steps)),
    )
    zero = np.zeros(data.images.shape[1:], np.float32)
    low, high = settings.bounds
    pixel_range = np.float32(high) - np.float32(low)
    learned, losses = ascend(
        model,
        data,
        lambda perturbation, batch, keys: batch.images + perturbation,
        zero,
        optimizer,
        lambda perturbation: norm.project(
            perturbation, zero, validation.round_down_to_float32(radius), -pixel_range, pixel_range
        ),
        settings,
        key=key,
        max_steps=max_steps,
        minibatch_size=minibatch_size,
        loss=loss,
        max_loss=max_loss,
    )
    perturbation = np.asarray(learned)
    result = apply_universal(model, images, labels, perturbation, norm=norm, epsilon=epsilon, key=key, **options)
    if radius > 0:
        result = warn_of_no_gradient(result, zero, perturbation, model, data)
    return Universal(perturbation, result, losses)


def _radius(epsilon, norm, images, settings):
    """Check the budget, which is one number; as large as the box it is none, and infinity would be no length."""
    if np.ndim(epsilon):
        raise ValueError(
            f"epsilon must be one number, for one perturbation of all images; found shape {np.shape(epsilon)}: call "
            "the attack once for each budget"
        )
    validation.check_budgets(epsilon, len(images))
    radius = min(float(epsilon), 1.001 * validation.size_of_box(norm, images, settings.bounds))
    if not np.isfinite(radius):
        raise ValueError("epsilon must be finite where values have no bounds; found infinity: give one of them")
    return radius


@documents_options
def apply_universal(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    perturbation: ArrayLike,
    *,
    norm: Norm = linf,
    epsilon: float = 10 / 255,
    key: jax.Array | None = None,
    **options: Unpack[Options],
) -> AttackResult:
    """Add a perturbation to images, within the bounds and the budget, and judge the model.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      perturbation: of the shape of one image.
      norm: `linf` or `l2`.
      epsilon: budget in the norm's units.
      key: not needed, unless the model draws random numbers.
      **options: shared options.

    Returns:
      What became of each image.
    """
    images, perturbation = np.asarray(images), np.asarray(perturbation, np.float32)
    if perturbation.shape != images.shape[1:]:
        raise ValueError(
            f"perturbation must have the shape of one image, {images.shape[1:]}; found "
            f"{perturbation.shape}: resize it, or the images"
        )
    norm, settings = validation.check_norm(norm, (linf, l2)), parse_options(options)
    spec = judged_by_criterion(random_search("universal", _add(norm), norm=norm), settings)
    hyperparameters = (jnp.asarray(perturbation),)
    return run_random_search(model, images, labels, spec, settings, 1, hyperparameters, key=key, epsilon=epsilon)


@factory
def _add(norm):
    return lambda example, hyperparameters, index, key: example.project(norm, example.image + hyperparameters[0])
