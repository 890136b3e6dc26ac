"""The sigma-zero attack (Cinà et al. 2025)."""

from functools import lru_cache
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffprog.attack._engine import border
from diffprog.attack._engine.bisection import cosine, width
from diffprog.attack._engine.method import Method, smaller
from diffprog.attack._engine.queries import by_gradient
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._norms import l0


def sigma_zero(
    model,
    images,
    labels,
    *,
    key=None,
    max_steps: int = 1000,
    step_size: float = 1.0,
    sigma: float = 1e-3,
    threshold: float = 0.3,
    threshold_step: float = 0.01,
    **options: Unpack[Options],
) -> AttackResult:
    """The smallest perturbation in L0 by descent on a smooth count of elements (Cinà et al. 2025, algorithm 1).

    Minimizes max(-lead, 0) + mean(r^2 / (r^2 + sigma)) with Adam, whose gradients are divided by their largest element;
    what is smaller than a threshold is set to zero after each step. The threshold rises after a success and falls after
    a failure. Steps fall to a tenth of the first as half a cosine. As in the authors' program, Adam makes the
    steps; the paper's algorithm shows plain descent.

    step_size:      the first, for pixels in [0, 1].
    sigma:          how sharply the smooth count tells zero from the rest, likewise squared.
    threshold:      the first; `threshold_step` is the part of a step by which it changes.
    L0 counts elements of the array. Other arguments are those of `pgd`; nothing is drawn, so `key` is not needed.
    """
    border.checked_counts(max_steps=max_steps)
    border.checked_positive(step_size=step_size, sigma=sigma, threshold=threshold, threshold_step=threshold_step)
    given = tuple(map(np.float32, (max_steps, step_size, sigma, threshold, threshold_step)))
    return search(model, images, labels, _method(), max_steps=max_steps, key=key, given=given, **options)


class State(NamedTuple):
    """A point, Adam's moments, and the threshold as a part of a pixel's range."""

    point: jax.Array
    adam: Any  # Optax's state
    threshold: jax.Array


@lru_cache
def _method():
    adam = optax.scale_by_adam()

    def start(example, given):
        return State(example.image, adam.init(example.image), given[3])

    def learn(example, given, state, view):
        max_steps, step_size, sigma, _, change = given
        moved = (state.point - example.image) / width(example)
        count = 2 * moved * sigma / (moved**2 + sigma) ** 2 / moved.size
        gradient = count - jnp.where(view.hit, 0, view.gradient * width(example))
        largest = jnp.max(jnp.abs(gradient))
        step, moments = adam.update(gradient / jnp.maximum(largest, 1e-12), state.adam)
        length = cosine(step_size, step_size / 10, view.number, max_steps)
        point = jnp.clip(state.point - width(example) * length * step, example.lower, example.upper)
        threshold = jnp.clip(state.threshold + jnp.where(view.hit, change, -change) * length, 0, 1)
        kept = jnp.abs(point - example.image) >= threshold * width(example)
        return State(jnp.where(kept, point, example.image), moments, threshold)

    return Method("sigma_zero", start, learn, by_gradient, norm=l0, better=smaller)
