"""What an attack raises: one number per image, larger where the network is surer that the label is wrong."""

import jax.numpy as jnp
import optax


def cross_entropy(logits, labels):
    """-log softmax(logits)[label] per image. In float32 its gradient fades once the label's logit leads by about 17."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def margin(logits, labels):
    """Largest other logit minus the label's, per image: positive exactly where the prediction is another class.

    The difference that Carlini & Wagner (2017) use (their f6, without its floor); it never saturates.
    """
    is_label = jnp.arange(logits.shape[-1]) == labels[:, None]
    others = jnp.max(jnp.where(is_label, -jnp.inf, logits), axis=-1)
    return others - jnp.sum(jnp.where(is_label, logits, 0), axis=-1)
