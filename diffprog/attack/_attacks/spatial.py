"""Rotations and shifts of images that a model does not survive."""

from collections.abc import Callable
from math import ceil, hypot
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util import draws
from diffprog._util.factory import factory
from diffprog.attack._attacks.random_search import random_search, run_random_search
from diffprog.attack._engine import validation
from diffprog.attack._engine.options import QueryOptions, documents_options, parse_options
from diffprog.attack._engine.oracle import Model
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._losses import margin
from diffprog.images._sampling import motion, sample

PADDINGS = ("zero", "edge")


@documents_options
def spatial(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    max_rotation: float = 30,
    max_translation: float = 3,
    num_rotations: int = 31,
    num_translations: int = 5,
    num_samples: int | None = None,
    padding: str = "zero",
    loss: Callable[..., jax.Array] = margin,
    **options: Unpack[QueryOptions],
) -> AttackResult:
    """Attack by the rotation about the center and the shift that raise the loss most.

    No norm bounds it: `result.distances` only tells what it came to. Images are sampled bilinearly.

    Args:
      model: (images (n, height, width, channels)) -> logits (n, classes).
      images: (n, height, width, channels), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key; needed with `num_samples`.
      max_rotation: largest angle to either side, in degrees.
      max_translation: largest shift along either axis, in pixels.
      num_rotations: angles of the grid.
      num_translations: shifts of the grid along each axis; the default grid takes 775 queries, as the paper's.
      num_samples: random motions to try in place of the grid (the paper's worst-of-10).
      padding: what comes in over the edge: the lowest value, "zero", or the edge repeated, "edge".
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best motion of each image: a success before a failure, then the larger loss.

    References:
      Engstrom et al. 2019, section 3.
    """
    settings = parse_options(options)
    images = validation.check_images(images, settings.bounds)
    validation.check_pictures(images)
    validation.check_choice(padding, PADDINGS, "padding")
    if not (max_rotation >= 0 and max_translation >= 0 and np.isfinite([max_rotation, max_translation]).all()):
        raise ValueError(
            "max_rotation and max_translation must be numbers that are not negative; "
            f"found {max_rotation!r} and {max_translation!r}: give the limits, 0 for no such motion"
        )
    limits = np.array([np.deg2rad(max_rotation), max_translation, max_translation], np.float32)
    height, width = images.shape[1:3]
    margin_width = ceil((hypot(height, width) - min(height, width)) / 2 + max_translation) + 1
    around, fill = margin_width if padding == "edge" else 0, settings.bounds[0]
    if num_samples is None:
        validation.check_counts(num_rotations=num_rotations, num_translations=num_translations)
        axes = _spaced(num_rotations), _spaced(num_translations), _spaced(num_translations)
        motions = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        spec = random_search("spatial", _motion_of_grid(around, fill))._replace(loss=loss)
        hyperparameters = (np.float32(motions) * limits,)
        return run_random_search(model, images, labels, spec, settings, len(motions), hyperparameters, key=key)
    validation.check_counts(num_samples=num_samples)
    if key is None:
        raise ValueError("key must be given with num_samples; found None: make one with jax.random.key(0)")
    spec = random_search("spatial", _random_motion(around, fill))._replace(loss=loss)
    return run_random_search(model, images, labels, spec, settings, num_samples, (limits,), key=key)


def _spaced(count):
    return np.linspace(-1, 1, count) if count > 1 else np.zeros(1)


@factory
def _motion_of_grid(around, fill):
    return lambda example, hyperparameters, index, key: _moved(example, hyperparameters[0][index], around, fill)


@factory
def _random_motion(around, fill):
    def random_motion(example, hyperparameters, index, key):
        (limits,) = hyperparameters
        return _moved(example, limits * draws.uniform(key, (3,), minval=-1.0), around, fill)

    return random_motion


def _moved(example, angle_and_shift, around, fill):
    """Turn the image and shift it."""
    image = jnp.pad(example.image, ((around, around), (around, around), (0, 0)), mode="edge")
    matrix = motion(angle_and_shift[0], angle_and_shift[1:])
    return example.clip(sample(image, matrix, *example.image.shape[:2], 2**0.5, fill))
