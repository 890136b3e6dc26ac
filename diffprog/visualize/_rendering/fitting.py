"""What a network sees of a picture, and in what size: brought to the network's size where it takes no other."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog.models import Model
from diffprog.visualize.transforms import Transform, chain, resize, still


def picture_shape(model: Model) -> tuple[int, int, int]:
    """Give the (height, width, channels) of a network's pictures.

    Raises:
      ValueError: Its inputs are no pictures.
    """
    if len(model.shape) != 3:
        raise ValueError(
            f"{model.name} takes inputs of shape {model.shape}, and what is drawn are pictures (height, width, "
            "channels): wrap a function of pictures that brings them into that shape"
        )
    height, width, channels = model.shape
    return height, width, channels


def extent(height: int, width: int) -> tuple[int, ...]:
    """Write a size as arguments of a parameterization: one of a square, as a user would, to find the same object."""
    return (height,) if height == width else (height, width)


def activations(model: Model, images: ArrayLike, names: str | Sequence[str]) -> dict[str, jax.Array]:
    """Compute the values of layers, as `Model.activations`, for images that are resized where they must be."""
    images = jnp.asarray(images)
    fitted = model.fitted(images)
    return model.activations(images if fitted is images else jnp.clip(fitted, 0, 1), names)


def layer_values(model: Model, photograph: ArrayLike, layer: str) -> np.ndarray:
    """Compute the values of one layer for one photograph."""
    return np.asarray(activations(model, model.check_image(photograph)[None], layer)[layer][0])


def as_transform(transform: Transform | Sequence[Transform] | None) -> Transform:
    """Read a transform: None is `still`, and a list a chain.

    Raises:
      ValueError: It is something else.
    """
    if transform is None:
        return still
    if callable(transform) and hasattr(transform, "size"):
        return transform
    if isinstance(transform, list | tuple) and all(callable(t) and hasattr(t, "size") for t in transform):
        return chain(*transform)
    raise ValueError(f"transform must be a transform, a list of them or None; found {transform!r:.60}")


def fitting(model: Model, transform: Transform, height: int, width: int) -> Transform:
    """Extend a transform of pictures of a size, for a network that does not take its results, by a resize.

    Pictures that are smaller than the network's `min_size` are left to be refused.
    """
    size: Any = transform.size(height, width)
    if min(size) < model.min_size or model.takes(*size) or not model.takes(*picture_shape(model)[:2]):
        return transform
    return chain(transform, resize(*picture_shape(model)[:2]))
