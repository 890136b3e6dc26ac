"""Classes to reach with `targeted=True`: labels, chosen from what the model says or by chance."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack._engine import border


def least_likely(model: Callable, images, batch_size: int | None = None) -> np.ndarray:
    """The class of the smallest logit of each image (Kurakin et al. 2017, section 2.3): int32 [n].

    batch: images per question to the model; all of them unless given.
    """
    return _logits(model, images, batch_size).argmin(axis=1).astype(np.int32)


def second_likely(model: Callable, images, labels, batch_size: int | None = None) -> np.ndarray:
    """The class of the largest logit besides the label's: int32 [n]."""
    logits = _logits(model, images, batch_size)
    labels = border.checked_labels(labels, len(logits))
    border.checked_logits(logits, labels)
    return np.where(np.arange(logits.shape[1]) == labels[:, None], -np.inf, logits).argmax(axis=1).astype(np.int32)


def random_targets(key: jax.Array, labels, num_classes: int, image_ids=None) -> np.ndarray:
    """A class other than the label, all equally likely: int32 [n]. That of an image depends on nothing but the key, its
    label and its number in the data set, 0 .. n-1 unless `numbers` are given."""
    labels = border.checked_labels(labels, len(labels))
    if num_classes < 2 or labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"num_classes must be more than every label and at least 2; found {num_classes} classes and labels "
            f"{labels.min()} .. {labels.max()}: count the columns of the logits"
        )
    key, image_ids = border.checked_key(key), border.checked_image_ids(image_ids, len(labels))
    draw = jax.vmap(lambda number: jax.random.randint(jax.random.fold_in(key, number), (), 1, num_classes))
    return ((labels + np.asarray(draw(jnp.asarray(image_ids)))) % num_classes).astype(np.int32)


def _logits(model, images, batch_size):
    images = np.asarray(images)
    parts = range(0, len(images), batch_size or len(images))
    return np.concatenate([np.asarray(model(images[first : first + (batch_size or len(images))])) for first in parts])
