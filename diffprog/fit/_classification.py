"""What classifiers are fitted by and judged by."""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from diffprog._util.promotion import own_promotion


@own_promotion()
def mean_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Compute the mean of -log softmax(logits)[label] over the examples.

    Args:
      logits: (n, classes).
      labels: int (n,).

    Returns:
      A scalar, in nats; NaN if a label is not the number of a class, which stops a fit.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@own_promotion()
def accuracy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Compute the fraction of examples whose label has the largest logit.

    Args:
      logits: (n, classes).
      labels: int (n,).

    Returns:
      A scalar in [0, 1].
    """
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)
