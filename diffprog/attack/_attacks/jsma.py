"""JSMA, the saliency-map attack (Papernot et al. 2016)."""

from functools import lru_cache
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack._engine import border
from diffprog.attack._engine.method import Method, smaller
from diffprog.attack._engine.queries import by_jacobian
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._norms import l0


def jsma(
    model, images, labels, *, key=None, theta: float = 1.0, gamma: float = 0.1, **options: Unpack[Options]
) -> AttackResult:
    """A perturbation of few elements: the pair that serves best is changed, until it is enough (Papernot et al. 2016,
    algorithms 2 and 3, meant for `targeted=True`).

    With alpha the gradient of the target's logit and beta that of the sum of all others, the pair with the largest
    -(alpha_p + alpha_q) (beta_p + beta_q) is changed by `theta`, among those whose alpha is positive and whose beta is
    negative (both for a decrease, the other way round). Without `targeted`, alpha and beta take each other's signs, so
    the label's logit falls (Wiyatno & Xu 2018). An element that has reached its bound is not chosen again. A search
    without a pair ends as a failure.

    theta: the change of an element in a step, for pixels in [0, 1]; negative to darken.
    gamma: the part of the elements that may be changed: there are at most gamma size / 2 steps.
    A step compares all pairs: its time grows with the square of an image's size. Other arguments are those of `pgd`;
    nothing is drawn, so `key` is not needed.
    """
    images = border.checked_images(images, options.get("bounds", (0, 1)))
    border.checked_positive(gamma=gamma)
    border.checked_positive(theta=abs(theta) if np.isscalar(theta) else theta)
    max_steps = max(1, int(gamma * images[0].size / 2))
    sign = np.float32(1 if options.get("targeted") else -1)
    return search(
        model, images, labels, _method(), max_steps=max_steps, key=key, given=(np.float32(theta), sign), **options
    )


class State(NamedTuple):
    """A point, and whether there is anything left to do."""

    point: jax.Array
    done: jax.Array


def label_and_others(oracle, examples, logits):
    """Two weightings of the logits: that of the label, and all others."""
    label = jnp.arange(logits.shape[1]) == examples.label[:, None]
    return jnp.stack([label, ~label], axis=1).astype(logits.dtype)


@lru_cache
def _method():
    def start(example, given):
        return State(example.image, jnp.array(False))

    def learn(example, given, state, view):
        theta, sign = given
        bound = jnp.where(theta > 0, example.upper, example.lower)
        free = (state.point != bound).reshape(-1)
        alpha, beta = view.extra[1].reshape(2, -1) * sign * jnp.sign(theta)
        every = jnp.arange(free.size)

        def merit(p):
            """Of all pairs with p; negative where a pair won't do."""
            a, b = alpha[p] + alpha, beta[p] + beta
            return jnp.where((a > 0) & (b < 0) & free & free[p] & (every != p), -a * b, -1)

        best = jnp.max(jax.vmap(merit)(every), axis=1)
        first = jnp.argmax(best)
        chosen = (every == first) | (every == jnp.argmax(merit(first)))
        moved = state.point + theta * (example.upper - example.lower) * chosen.reshape(state.point.shape)
        none = best[first] <= 0
        point = jnp.where(none, state.point, jnp.clip(moved, example.lower, example.upper))
        return State(point, none | view.hit)

    return Method("jsma", start, learn, by_jacobian(label_and_others), norm=l0, better=smaller)
