"""What an attack raises: one number per image, larger where the network is surer that the label is wrong.

Each takes logits (n, classes) and labels (n,), and `TWO_CLASS_LOSSES` also target classes (n,).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.factory import factory


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Compute -log softmax(logits)[label] of each image.

    In float32 its gradient fades once the label's logit leads by about 17.

    Args:
      logits: (n, classes).
      labels: (n,), int.

    Returns:
      (n,), at least 0.
    """
    return jax.nn.logsumexp(logits, axis=-1) - logit_of(logits, labels)


def other_class(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Compute the log of the probability that the class is not the label, which never exceeds 0."""
    is_label = _is(labels, logits)
    return jax.nn.logsumexp(jnp.where(is_label, -jnp.inf, logits), axis=-1) - jax.nn.logsumexp(logits, axis=-1)


def margin(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Compute the largest other logit minus the label's; positive exactly where the prediction is another class.

    It never saturates.

    Args:
      logits: (n, classes).
      labels: (n,), int.

    Returns:
      (n,).

    References:
      Carlini & Wagner 2017, f6 without its floor.
    """
    is_label = _is(labels, logits)
    others = jnp.max(jnp.where(is_label, -jnp.inf, logits), axis=-1)
    return others - logit_of(logits, labels)


def dlr(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Compute the difference of logits ratio: the margin over the lead of the largest logit on the third.

    Neither an offset nor a scale of the logits changes it. With two classes it is the margin.

    Args:
      logits: (n, classes).
      labels: (n,), int.

    Returns:
      (n,).

    References:
      Croce & Hein 2020b, eq. 6.
    """
    if logits.shape[-1] < 3:
        return margin(logits, labels)
    ordered = jnp.sort(logits, axis=-1)
    return margin(logits, labels) / (ordered[:, -1] - ordered[:, -3] + 1e-12)


def targeted_dlr(logits: jax.Array, labels: jax.Array, target_classes: jax.Array) -> jax.Array:
    """Compute the targeted difference of logits ratio (Croce & Hein 2020b, eq. 7), to be raised.

    It is the target's lead on the label, over the lead of the largest logit on the mean of the third and fourth. With
    three classes the third takes the place of that mean; with two it is the lead itself.
    """
    lead = target_lead(logits, labels, target_classes)
    if logits.shape[-1] < 3:
        return lead
    ordered = jnp.sort(logits, axis=-1)
    third = ordered[:, -3] if logits.shape[-1] == 3 else (ordered[:, -3] + ordered[:, -4]) / 2
    return lead / (ordered[:, -1] - third + 1e-12)


def target_lead(logits: jax.Array, labels: jax.Array, target_classes: jax.Array) -> jax.Array:
    """Compute the target's logit minus the label's: 0 on the boundary between the two."""
    return logit_of(logits, target_classes) - logit_of(logits, labels)


@factory
def top_k_margin(k: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Make a loss that is above 0 exactly where the label is not among the k likeliest classes.

    Args:
      k: number of classes, at least 1; with 1 the loss is the `margin`.

    Returns:
      (logits (n, classes), labels (n,)) -> (n,), what the k largest other logits lack to the label's, a sum below 0;
      where they lack nothing, the lead of the smallest of them.
    """

    def lead(logits, labels):
        is_label = _is(labels, logits)
        others = jnp.sort(jnp.where(is_label, -jnp.inf, logits), axis=-1)[:, -k:]
        leads = others - logit_of(logits, labels)[:, None]
        return jnp.where(leads[:, 0] > 0, leads[:, 0], jnp.sum(jnp.minimum(leads, 0), axis=-1))

    return lead


ONE_CLASS_LOSSES = (cross_entropy, other_class, margin, dlr)
TWO_CLASS_LOSSES = (targeted_dlr, target_lead)


def likely_target_classes(num_classes: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Make a function that ranks the classes besides the label: (logits (n, classes), labels (n,)) -> (k, n), int.

    The likeliest class comes first; k is `num_classes`, or as many classes as there are besides the label.
    """

    def rank(logits, labels):
        is_label = np.arange(logits.shape[1]) == labels[:, None]
        order = np.argsort(np.where(is_label, np.inf, -logits), axis=1, kind="stable")
        return order[:, : min(num_classes, logits.shape[1] - 1)].T

    return rank


def logit_of(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """Pick one logit of each image without a gather: its gradient is then no scatter."""
    return jnp.sum(jnp.where(_is(classes, logits), logits, 0), axis=-1)


def _is(classes: jax.Array, logits: jax.Array) -> jax.Array:
    """Mark the logit of each image's class, of one type and rank: the caller may have JAX promote neither."""
    return jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1) == jnp.asarray(classes, jnp.int32)[:, None]
