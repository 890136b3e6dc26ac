"""A patch that fools a model wherever it is put."""

from collections.abc import Callable
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from diffprog._util import draws
from diffprog._util.factory import factory
from diffprog.attack._attacks.random_search import judged_by_criterion, random_search, run_random_search
from diffprog.attack._attacks.universal_training import ascend, check_data, warn_of_no_gradient
from diffprog.attack._engine import validation
from diffprog.attack._engine.options import Options, documents_options, parse_options
from diffprog.attack._engine.oracle import Model
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._losses import cross_entropy
from diffprog.images._sampling import motion, sample


class Placements(NamedTuple):
    """Where patches are put: from the lowest to the highest of each, drawn uniformly; equal ends for one place."""

    degrees: tuple[float, float] = (-22.5, 22.5)  # counterclockwise, about the patch's center
    scale: tuple[float, float] = (0.8, 1.0)  # 1: a pixel of the patch is a pixel of the image
    row: tuple[float, float] = (0.0, 1.0)  # 0: at the image's upper edge, 1: at its lower edge
    column: tuple[float, float] = (0.0, 1.0)  # 0: at its left edge


class Patch(NamedTuple):
    """A patch, and what it does to the images from which it was learned, at places that were drawn for the purpose."""

    patch: np.ndarray  # float32 [size, size, channels] in the bounds
    result: AttackResult
    losses: np.ndarray  # float32 [max_steps], mean of each step's batch, before the step; negated with `targeted`


@documents_options
def patch(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    size: int,
    placements: Placements | None = None,
    max_steps: int = 500,
    learning_rate: float = 0.05,
    minibatch_size: int = 16,
    loss: Callable[..., jax.Array] = cross_entropy,
    max_loss: float = 9.0,
    **options: Unpack[Options],
) -> Patch:
    """Learn one square patch that fools the model at random places, turned and scaled at random.

    Adam raises the mean loss over images and places, both drawn anew in each step. As in the paper, `targeted=True`
    with one class for every label makes the strongest patches. For other images or places: `apply_patch`. A patch for
    each image alone, at one place, is any attack with a mask and no other budget than the bounds, as
    `pgd(model, images, labels, key=key, epsilon=1.0, mask=mask)` with `mask` true inside a square.

    Args:
      model: (images (n, height, width, channels)) -> logits (n, classes).
      images: (n, height, width, channels), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key, which decides minibatches and places.
      size: side of the patch in pixels, at scale 1.
      placements: where it is put, `Placements()` by default; edges of a turned or scaled patch are antialiased.
      max_steps: steps of Adam.
      learning_rate: of Adam, in units of the range of pixels.
      minibatch_size: images per step.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      max_loss: what an image's loss counts at most, so that none decides alone.
      **options: shared options.

    Returns:
      The patch, and what became of each image.

    References:
      Brown et al. 2017, eq. 1.
    """
    settings = parse_options(options)
    validation.check_counts(size=size)
    validation.check_positive(learning_rate=learning_rate)
    placements = check_placements(placements)
    data = check_data(images, labels, loss, settings)
    validation.check_pictures(data.images)
    if size * placements.scale[1] > min(data.images.shape[1:3]):
        raise ValueError(
            f"size, enlarged by the highest scale, must be at most the images' shorter side, "
            f"{min(data.images.shape[1:3])}; found {size} x {placements.scale[1]:g}: make it smaller"
        )
    low, high = validation.check_finite_bounds("patch", settings.bounds)
    start_key, learn_key = jax.random.split(validation.check_key(key))
    start = draws.uniform(start_key, (size, size, data.images.shape[-1]), minval=low, maxval=high)
    put, ranges = _put(float(placements.scale[1])), jnp.asarray(placements, jnp.float32)
    learned, losses = ascend(
        model,
        data,
        lambda patch, batch, keys: jax.vmap(lambda image, key: put(image, patch, ranges, key))(batch.images, keys),
        start,
        optax.adam(learning_rate * (high - low)),
        lambda patch: jnp.clip(patch, low, high),
        settings,
        key=learn_key,
        max_steps=max_steps,
        minibatch_size=minibatch_size,
        loss=loss,
        max_loss=max_loss,
    )
    learned = np.asarray(learned)
    result = apply_patch(model, images, labels, learned, key=key, placements=placements, **options)
    return Patch(learned, warn_of_no_gradient(result, start, learned, model, data), losses)


@documents_options
def apply_patch(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    patch: ArrayLike,
    *,
    key: jax.Array,
    placements: Placements | None = None,
    num_samples: int = 1,
    **options: Unpack[Options],
) -> AttackResult:
    """Put a patch on images, each at a random place, and judge the model.

    Args:
      model: (images (n, height, width, channels)) -> logits (n, classes).
      images: (n, height, width, channels), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      patch: (height, width, channels), of the channels of the images.
      key: random key, which decides the places.
      placements: where it is put, `Placements()` by default.
      num_samples: places per image, of which the one is kept where the patch does most.
      **options: shared options.

    Returns:
      What became of each image.
    """
    images, patch = np.asarray(images), np.asarray(patch, np.float32)
    validation.check_pictures(images)
    if patch.ndim != 3 or patch.shape[-1] != images.shape[-1]:
        raise ValueError(
            f"patch must have shape (height, width, {images.shape[-1]}); found {patch.shape}: give it the "
            "channels of the images"
        )
    placements = check_placements(placements)
    validation.check_counts(num_samples=num_samples)
    settings = parse_options(options)
    spec = judged_by_criterion(random_search("patch", _at_random_place(float(placements.scale[1]))), settings)
    hyperparameters = jnp.asarray(patch), jnp.asarray(placements, jnp.float32)
    key = validation.check_key(key)
    return run_random_search(model, images, labels, spec, settings, num_samples, hyperparameters, key=key)


def check_placements(placements: Placements | None) -> Placements:
    """Return the placements, whose ranges must be in order; the default ones for None."""
    placements = Placements() if placements is None else Placements(*placements)
    for name, (low, high) in placements._asdict().items():
        if not (np.isfinite([low, high]).all() and low <= high) or (name == "scale" and low <= 0):
            raise ValueError(
                f"{name} of placements must be (lowest, highest), numbers in order, a scale above 0; found "
                f"({low}, {high}): swap or mend them"
            )
    return placements


@factory
def _at_random_place(max_scale):
    put = _put(max_scale)

    def at_random_place(example, hyperparameters, index, key):
        patch, ranges = hyperparameters
        return example.clip(put(example.image, patch, ranges, key))

    return at_random_place


@factory
def _put(max_scale):
    """Make (image, patch, ranges, key) -> the image with the patch at a random place, enlarged at most so much."""

    def put(image, patch, ranges, key):
        low, high = ranges.T
        degrees, scale, *center = low + (high - low) * draws.uniform(key, (4,))
        room = jnp.array(image.shape[:2]) - scale * jnp.array(patch.shape[:2])
        matrix = motion(jnp.deg2rad(degrees), (jnp.stack(center) - 0.5) * jnp.maximum(room, 0), scale)
        layers = jnp.concatenate([patch, jnp.ones((*patch.shape[:2], 1), patch.dtype)], axis=-1)
        sampled = sample(layers, matrix, *image.shape[:2], max_scale * 2**0.5, 0.0)
        return image * (1 - sampled[..., -1:]) + sampled[..., :-1]

    return put
