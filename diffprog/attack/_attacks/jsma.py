"""JSMA, the saliency-map attack."""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog.attack._engine import validation
from diffprog.attack._engine.method import AttackSpec, smaller_norm
from diffprog.attack._engine.options import Options, documents_options, parse_options
from diffprog.attack._engine.oracle import Model, query_jacobian
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import run_attack
from diffprog.attack._norms import l0


@documents_options
def jsma(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    theta: float = 1.0,
    gamma: float = 0.1,
    **options: Unpack[Options],
) -> AttackResult:
    """Find a perturbation of few elements: the pair that serves best is changed, until it is enough.

    With alpha the gradient of the target's logit and beta the gradient of the sum of all others, the pair with the
    largest -(alpha_p + alpha_q) (beta_p + beta_q) is changed by `theta`, among those whose alpha is positive and whose
    beta is negative (both the other way round for a decrease). Without `targeted`, alpha and beta take each other's
    signs, so the label's logit falls (Wiyatno & Xu 2018). An element at its bound is not chosen again. A search
    without a pair ends as a failure.

    A step compares all pairs: its time grows with the square of an image's size.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted`, for which the paper is meant, to reach.
      key: not needed; nothing is drawn.
      theta: change of an element in a step, for pixels in [0, 1]; negative to darken.
      gamma: fraction of the elements that may be changed: there are at most gamma * size / 2 steps.
      **options: shared options.

    Returns:
      The smallest success of each image in L0, or the image itself.

    References:
      Papernot et al. 2016, algorithms 2 and 3.
    """
    settings = parse_options(options)
    validation.check_finite_bounds("jsma", settings.bounds)
    images = validation.check_images(images, settings.bounds)
    validation.check_positive(gamma=gamma)
    validation.check_positive(theta=abs(theta) if isinstance(theta, int | float | np.number) else theta)
    max_steps = max(1, int(gamma * images[0].size / 2))
    hyperparameters = np.float32(theta), np.float32(1 if settings.targeted else -1)
    return run_attack(model, images, labels, _spec(), settings, max_steps, hyperparameters, key=key)


class State(NamedTuple):
    """A point, and whether there is nothing left to do."""

    point: jax.Array
    done: jax.Array


def label_and_others(oracle, examples, logits):
    """Weigh the logits in two ways: the label alone, and all others."""
    is_label = jnp.arange(logits.shape[1]) == examples.label[:, None]
    return jnp.stack([is_label, ~is_label], axis=1).astype(logits.dtype)


@factory
def _spec():
    def init(example, hyperparameters):
        return State(example.image, jnp.array(False))

    def update(example, hyperparameters, state, view):
        theta, sign = hyperparameters
        bound = jnp.where(theta > 0, example.upper, example.lower)
        is_free = (state.point != bound).reshape(-1)
        _, gradients = view.extras
        alpha, beta = gradients.reshape(2, -1) * sign * jnp.sign(theta)
        elements = jnp.arange(is_free.size)

        def merit(p):
            """Rate all pairs with p; negative where a pair won't do."""
            a, b = alpha[p] + alpha, beta[p] + beta
            return jnp.where((a > 0) & (b < 0) & is_free & is_free[p] & (elements != p), -a * b, -1)

        best = jnp.max(jax.vmap(merit)(elements), axis=1)
        first = jnp.argmax(best)
        chosen = (elements == first) | (elements == jnp.argmax(merit(first)))
        moved = state.point + theta * (example.upper - example.lower) * chosen.reshape(state.point.shape)
        has_none = best[first] <= 0
        point = jnp.where(has_none, state.point, example.clip(moved))
        return State(point, has_none | view.is_adversarial)

    return AttackSpec("jsma", init, update, query_jacobian(label_and_others), norm=l0, better=smaller_norm)
