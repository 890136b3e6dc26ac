"""Hyperparameters that may have a value of each image."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog.attack._engine import validation


class PerImage(NamedTuple):
    """A hyperparameter with one value per image (n, ...); in a batch of slots, with one per slot."""

    values: Any


def _is_per_image(leaf: Any) -> bool:
    return isinstance(leaf, PerImage)


def positive(name: str, value: ArrayLike, images: ArrayLike) -> PerImage | np.float32:
    """Read an argument that is a positive number, or one per image (n,)."""
    if np.ndim(value) == 0:
        validation.check_positive(**{name: value})
        return np.float32(np.asarray(value).item())
    count, numbers = len(np.asarray(images)), np.asarray(value)
    if numbers.shape != (count,) or numbers.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} must be one number, or one per image ({count},); found {numbers.dtype} of shape "
            f"{numbers.shape}: repeat it, or call the attack for the images of each"
        )
    for extreme in (numbers.min(), numbers.max()):  # NaN is either
        validation.check_positive(**{name: extreme})
    return PerImage(numbers.astype(np.float32))


def of_images(hyperparameters: Any, image: np.ndarray) -> Any:
    """Take the values of those images that are in the slots."""
    take = lambda leaf: PerImage(leaf.values[image]) if _is_per_image(leaf) else leaf
    return jax.tree.map(take, hyperparameters, is_leaf=_is_per_image)


def values_and_axes(hyperparameters: Any) -> tuple[Any, Any]:
    """Divide hyperparameters into their values, and the axes of these along which slots run, for `jax.vmap`."""
    map_leaves = partial(jax.tree.map, is_leaf=_is_per_image)
    values = map_leaves(lambda leaf: leaf.values if _is_per_image(leaf) else leaf, hyperparameters)
    # Where JAX is set not to compile, they come as NumPy's, which no traced number indexes.
    values = jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, values)
    return values, map_leaves(lambda leaf: 0 if _is_per_image(leaf) else None, hyperparameters)
