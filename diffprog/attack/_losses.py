"""What an attack raises: one number per image, larger where the network is surer that the label is wrong.

Each is `(logits [n, classes], labels int [n]) -> [n]`; `targeted_dlr` takes the rivals too.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack._engine import border


def cross_entropy(logits, labels):
    """-log softmax(logits)[label] per image. In float32 its gradient fades once the label's logit leads by about 17."""
    return jax.nn.logsumexp(logits, axis=-1) - at(logits, labels)


def other_class(logits, labels):
    """log of the probability that it is not the label: what an untargeted search can raise without end in sight, since
    it never exceeds 0."""
    is_label = jnp.arange(logits.shape[-1]) == labels[:, None]
    return jax.nn.logsumexp(jnp.where(is_label, -jnp.inf, logits), axis=-1) - jax.nn.logsumexp(logits, axis=-1)


def margin(logits, labels):
    """Largest other logit minus the label's, per image: positive exactly where the prediction is another class.

    The difference that Carlini & Wagner (2017) use (their f6, without its floor); it never saturates.
    """
    is_label = jnp.arange(logits.shape[-1]) == labels[:, None]
    others = jnp.max(jnp.where(is_label, -jnp.inf, logits), axis=-1)
    return others - at(logits, labels)


def dlr(logits, labels):
    """The difference of logits ratio of Croce & Hein (2020b, eq. 6): the margin over the lead of the largest logit on
    the third, so that neither an offset nor a scale of the logits matters. With two classes it is the margin."""
    if logits.shape[-1] < 3:
        return margin(logits, labels)
    ordered = jnp.sort(logits, axis=-1)
    return margin(logits, labels) / (ordered[:, -1] - ordered[:, -3] + 1e-12)


def targeted_dlr(logits, labels, target_classes):
    """The targeted ratio (Croce & Hein 2020b, eq. 7), to be raised: the rival's lead on the label, over the lead of the
    largest logit on the mean of the third and fourth. With three classes the third alone, with two the lead itself."""
    lead = target_lead(logits, labels, target_classes)
    if logits.shape[-1] < 3:
        return lead
    ordered = jnp.sort(logits, axis=-1)
    third = ordered[:, -3] if logits.shape[-1] == 3 else (ordered[:, -3] + ordered[:, -4]) / 2
    return lead / (ordered[:, -1] - third + 1e-12)


def target_lead(logits, labels, target_classes):
    """How far the rival's logit is ahead of the label's: 0 on the boundary between the two."""
    return at(logits, target_classes) - at(logits, labels)


def likely_target_classes(count):
    """The `count` classes that the model finds most likely besides the label, as far as there are so many: the rivals
    of searches, one after the other. A function (logits [n, classes], labels [n]) -> int [count, n]."""

    def ranked(logits, labels):
        is_label = np.arange(logits.shape[1]) == labels[:, None]
        order = np.argsort(np.where(is_label, np.inf, -logits), axis=1, kind="stable")
        return order[:, : min(count, logits.shape[1] - 1)].T

    return ranked


def at(logits, labels):
    """The logit of each image's label, without a gather: its gradient is then no scatter."""
    return jnp.sum(jnp.where(jnp.arange(logits.shape[-1]) == labels[:, None], logits, 0), axis=-1)


@lru_cache
def of_label(loss):
    """A loss of (logits, labels) as a search calls it: with the rivals, which it does not read."""
    border.checked_function("loss", loss, ["logits", "labels"], "try attack.cross_entropy, margin or dlr")
    return lambda logits, labels, target_classes: loss(logits, labels)


label_margin = of_label(margin)
