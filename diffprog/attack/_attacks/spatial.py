"""Rotations and shifts of images that a model does not survive."""

from collections.abc import Callable
from functools import lru_cache
from math import ceil, hypot
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack._attacks.trials import trials, try_out
from diffprog.attack._engine import border
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options
from diffprog.attack._losses import margin, of_label
from diffprog.images._sampling import motion, sample

PADDINGS = ("zero", "edge")


def spatial(
    model: Callable,
    images,
    labels,
    *,
    key=None,
    max_rotation: float = 30,
    max_translation: float = 3,
    num_rotations: int = 31,
    num_translations: int = 5,
    num_samples: int | None = None,
    padding: str = "zero",
    loss: Callable = margin,
    **options: Unpack[Options],
) -> AttackResult:
    """The rotation about the center and the shift of the largest loss (Engstrom et al. 2019, section 3), of images
    [n, height, width, channels]. No norm bounds it: `result.distances` only tells what it came to.

    Without `draws` every point of a grid is tried: `rotations` angles from -degrees to degrees, times `shifts` by
    `shifts` shifts from -pixels to pixels (775 queries, as the paper's grid has); with `draws`, so many random ones
    within these limits, for which `key` is needed (the paper's worst-of-10). Angles are counterclockwise. Images are
    sampled bilinearly; what comes in over the edge is the lowest value ("zero") or repeats the edge ("edge").
    """
    bounds = border.checked_bounds(options.get("bounds", (0.0, 1.0)))
    images = border.checked_images(images, bounds)
    border.checked_pictures(images)
    if padding not in PADDINGS:
        raise ValueError(f"padding must be one of {', '.join(map(repr, PADDINGS))}; found {padding!r}: choose one")
    if not (max_rotation >= 0 and max_translation >= 0 and np.isfinite([max_rotation, max_translation]).all()):
        raise ValueError(
            f"max_rotation and max_translation must be numbers that are not negative; "
            f"found {max_rotation!r} and {max_translation!r}: "
            "give the limits, 0 for no such motion"
        )
    limits = np.float32([np.deg2rad(max_rotation), max_translation, max_translation])
    height, width = images.shape[1:3]
    around = ceil((hypot(height, width) - min(height, width)) / 2 + max_translation) + 1 if padding == "edge" else 0
    if num_samples is None:
        border.checked_counts(num_rotations=num_rotations, num_translations=num_translations)
        down = right = _spaced(num_translations)
        motions = np.stack(np.meshgrid(_spaced(num_rotations), down, right, indexing="ij"), axis=-1).reshape(-1, 3)
        method = trials("spatial", _listed(around, bounds[0]), of_label(loss))
        return try_out(model, images, labels, method, len(motions), (np.float32(motions) * limits,), key=key, **options)
    border.checked_counts(num_samples=num_samples)
    if key is None:
        raise ValueError("key must be given with num_samples; found None: make one with jax.random.key(0)")
    method = trials("spatial", _drawn(around, bounds[0]), of_label(loss))
    return try_out(model, images, labels, method, num_samples, (limits,), key=border.checked_key(key), **options)


def _spaced(count):
    return np.linspace(-1, 1, count) if count > 1 else np.zeros(1)


@lru_cache
def _listed(around, fill):
    return lambda example, given, number, key: _moved(example, given[0][number], around, fill)


@lru_cache
def _drawn(around, fill):
    def make(example, given, number, key):
        return _moved(example, given[0] * jax.random.uniform(key, (3,), minval=-1.0), around, fill)

    return make


def _moved(example, way, around, fill):
    """The image turned by `way[0]` and shifted by `way[1:]`."""
    image = jnp.pad(example.image, ((around, around), (around, around), (0, 0)), mode="edge")
    seen = sample(image, motion(way[0], way[1:]), *example.image.shape[:2], 2**0.5, fill)
    return jnp.clip(seen, example.lower, example.upper)
