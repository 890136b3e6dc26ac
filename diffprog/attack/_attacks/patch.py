"""A patch that fools a model wherever it is put."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffprog.attack._attacks.trials import trials, try_out
from diffprog.attack._attacks.universal_training import checked_data, learn
from diffprog.attack._engine import border
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options
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
    losses: np.ndarray  # float32 [steps], the mean of each step's batch, before the step; negated with `targeted`


def patch(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array,
    size: int,
    placements: Placements | None = None,
    max_steps: int = 500,
    learning_rate: float = 0.05,
    minibatch_size: int = 16,
    loss: Callable = cross_entropy,
    max_loss: float = 9.0,
    **options: Unpack[Options],
) -> Patch:
    """One square patch for all images [n, height, width, channels], which fools the model at random places, turned and
    scaled at random (Brown et al. 2017, eq. 1): Adam on the mean loss over images and places, both drawn anew in each
    step. As there, `targeted=True` with the wanted class for every label makes the strongest patches.

    size:           its side in pixels, at scale 1.
    places:         see `Placements`; the edges of a turned or scaled patch are antialiased.
    learning_rate:  of Adam, in units of the range of pixels.
    minibatch:      images per step. cap: what an image's loss counts at most, so that none decides alone.

    For other images or places: `apply_patch`. A patch for each image alone, at one place, needs no function of its own:
    it is any attack with a mask and no other budget than the bounds, as
    `pgd(model, images, labels, key=key, epsilon=1.0, mask=mask)` with `mask` true inside a square.
    """
    border.checked_counts(size=size)
    border.checked_positive(learning_rate=learning_rate)
    placements = checked_places(placements)
    data = checked_data(images, labels, **options)
    border.checked_pictures(data.images)
    if size * placements.scale[1] > min(data.images.shape[1:3]):
        raise ValueError(
            f"size, enlarged by the highest scale, must be at most the images' shorter side, "
            f"{min(data.images.shape[1:3])}; found {size} x {placements.scale[1]:g}: make it smaller"
        )
    low, high = border.checked_bounds(options.get("bounds", (0.0, 1.0)))
    start_key, learn_key = jax.random.split(border.checked_key(key))
    start = jax.random.uniform(start_key, (size, size, data.images.shape[-1]), minval=low, maxval=high)
    put = _put(float(placements.scale[1]))
    ranges = jnp.float32(placements)
    make = lambda patch, batch, keys: jax.vmap(lambda image, key: put(image, patch, ranges, key))(batch.images, keys)
    found, losses = learn(
        model,
        data,
        make,
        start,
        optax.adam(learning_rate * (high - low)),
        lambda moved: jnp.clip(moved, low, high),
        key=learn_key,
        max_steps=max_steps,
        minibatch_size=minibatch_size,
        loss=loss,
        max_loss=max_loss,
        **options,
    )
    found = np.asarray(found)
    return Patch(found, apply_patch(model, images, labels, found, key=key, placements=placements, **options), losses)


def apply_patch(
    model: Callable,
    images,
    labels,
    patch,
    *,
    key: jax.Array,
    placements: Placements | None = None,
    num_samples: int = 1,
    **options: Unpack[Options],
) -> AttackResult:
    """What a patch [height, width, channels] does to images, each at a place that is drawn from its key; of several
    `draws` the place where it does most."""
    images, patch = np.asarray(images), np.asarray(patch, np.float32)
    border.checked_pictures(images)
    if patch.ndim != 3 or patch.shape[-1] != images.shape[-1]:
        raise ValueError(
            f"patch must have shape (height, width, {images.shape[-1]}); found {patch.shape}: give it the "
            "channels of the images"
        )
    placements = checked_places(placements)
    border.checked_counts(num_samples=num_samples)
    method = trials("patch", _placed(float(placements.scale[1])))
    return try_out(
        model,
        images,
        labels,
        method,
        num_samples,
        (jnp.asarray(patch), jnp.float32(placements)),
        key=border.checked_key(key),
        **options,
    )


def checked_places(placements):
    """Places whose ranges are in order."""
    placements = Placements() if placements is None else Placements(*placements)
    for name, (low, high) in placements._asdict().items():
        if not (np.isfinite([low, high]).all() and low <= high) or (name == "scale" and low <= 0):
            raise ValueError(
                f"{name} of placements must be (lowest, highest), numbers in order, a scale above 0; found "
                f"({low}, {high}): swap or mend them"
            )
    return placements


@lru_cache
def _placed(largest):
    put = _put(largest)

    def make(example, given, number, key):
        return jnp.clip(put(example.image, *given, key), example.lower, example.upper)

    return make


@lru_cache
def _put(largest):
    """(image, patch, ranges, key) -> the image with the patch at a random place, enlarged at most `largest` times."""

    def put(image, patch, ranges, key):
        low, high = ranges.T
        degrees, scale, *where = low + (high - low) * jax.random.uniform(key, (4,))
        room = jnp.array(image.shape[:2]) - scale * jnp.array(patch.shape[:2])
        matrix = motion(jnp.deg2rad(degrees), (jnp.stack(where) - 0.5) * jnp.maximum(room, 0), scale)
        layers = jnp.concatenate([patch, jnp.ones((*patch.shape[:2], 1), patch.dtype)], axis=-1)
        seen = sample(layers, matrix, *image.shape[:2], largest * 2**0.5, 0.0)
        return image * (1 - seen[..., -1:]) + seen[..., :-1]

    return put
