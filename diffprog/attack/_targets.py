"""Classes to reach with `targeted=True`: labels, chosen from what the model says or by chance."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util import draws
from diffprog._util.batches import in_batches
from diffprog.attack._engine import answers, validation


def least_likely(model: Callable[..., jax.Array], images: ArrayLike, batch_size: int | None = None) -> np.ndarray:
    """Choose the class of the smallest logit of each image.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats.
      batch_size: images per call of the model; all of them by default.

    Returns:
      (n,), int32.

    References:
      Kurakin et al. 2017, section 2.3.
    """
    return _logits(model, images, batch_size).argmin(axis=1).astype(np.int32)


def second_likely(
    model: Callable[..., jax.Array], images: ArrayLike, labels: ArrayLike, batch_size: int | None = None
) -> np.ndarray:
    """Choose the class of the largest logit besides the label's.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats.
      labels: (n,), int.
      batch_size: images per call of the model; all of them by default.

    Returns:
      (n,), int32.
    """
    logits = _logits(model, images, batch_size)
    labels = validation.check_labels(labels, len(logits))
    answers.check_logits(logits, labels)
    return np.where(np.arange(logits.shape[1]) == labels[:, None], -np.inf, logits).argmax(axis=1).astype(np.int32)


def random_targets(
    key: jax.Array, labels: ArrayLike, num_classes: int, image_ids: ArrayLike | None = None
) -> np.ndarray:
    """Draw a class other than the label, all equally likely.

    A draw depends on nothing but the key, the label and the image's number.

    Args:
      key: random key.
      labels: (n,), int.
      num_classes: at least 2.
      image_ids: (n,), int; the images' numbers in their data set, 0 .. n-1 by default.

    Returns:
      (n,), int32.
    """
    labels = validation.check_labels(labels, np.shape(labels)[0])
    if num_classes < 2 or labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"num_classes must be more than every label and at least 2; found {num_classes} classes and labels "
            f"{labels.min()} .. {labels.max()}: count the columns of the logits"
        )
    key, image_ids = validation.check_key(key), validation.check_image_ids(image_ids, len(labels))
    draw = jax.vmap(lambda image: draws.integers(jax.random.fold_in(key, image), 1, num_classes))
    return ((labels + np.asarray(draw(jnp.asarray(image_ids)))) % num_classes).astype(np.int32)


def _logits(model, images, batch_size):
    images = np.asarray(images)
    return in_batches(lambda batch: np.asarray(answers.call_model(model, batch)), images, batch_size or len(images))
