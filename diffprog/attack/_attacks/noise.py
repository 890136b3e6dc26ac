"""Noise within a budget: what an attack that looks for nothing achieves, to measure the others by."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Unpack

import jax
import jax.numpy as jnp

from diffprog.attack._attacks.fast_gradient import project
from diffprog.attack._attacks.trials import trials, try_out
from diffprog.attack._engine import border
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options
from diffprog.attack._losses import margin, of_label
from diffprog.attack._norms import Norm, l1, l2, linf

KINDS = {"gaussian": jax.random.normal, "uniform": partial(jax.random.uniform, minval=-1.0)}


def additive_noise(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array,
    norm: Norm = l2,
    epsilon=0.5,
    num_samples: int = 10,
    distribution: str = "gaussian",
    loss: Callable = margin,
    **options: Unpack[Options],
) -> AttackResult:
    """Noise as large as the budget allows, drawn anew `draws` times: the draw of the largest loss is returned.

    Each noise is scaled so that what is left of it after clipping to the bounds has the size epsilon, not the noise
    itself (for L2 the rescaling of Rauber & Bethge 2020; here for any norm); only where no pixel can go further does it
    stay smaller. With `linf` that makes one element reach epsilon; `kind="uniform"` fills the cube, nearly.

    norm:   `linf`, `l2` or `l1`; `epsilon` is in its units, as in `pgd`.
    kind:   "gaussian" or "uniform", of each element by itself.
    loss:   as in `pgd`: of the draws that succeed, or else of all, the one that is largest is kept.
    """
    border.checked_norm(norm, (linf, l2, l1))
    if distribution not in KINDS:
        raise ValueError(
            f"distribution must be one of {', '.join(map(repr, KINDS))}; found {distribution!r}: choose one"
        )
    border.checked_counts(num_samples=num_samples)
    method = trials(f"{distribution}_noise", _draw(norm, distribution), of_label(loss), norm)
    return try_out(model, images, labels, method, num_samples, key=key, epsilon=epsilon, **options)


@lru_cache
def _draw(norm, distribution):
    return lambda example, given, number, key: filling(norm, KINDS[distribution](key, example.image.shape), example)


def filling(norm, direction, example):
    """The point of the box whose way from the image, clip(image + t direction) - image, has the size epsilon; where
    none has, the farthest.

    Its size grows with t, over many orders of magnitude: t is bisected in its logarithm.
    """
    direction = direction / jnp.maximum(jnp.max(jnp.abs(direction)), jnp.finfo(jnp.float32).tiny)
    moved = lambda t: jnp.clip(example.image + t * direction, example.lower, example.upper)
    span = jnp.max(example.upper - example.lower) + jnp.finfo(jnp.float32).tiny

    def halve(_, bracket):
        low, high = bracket
        middle = jnp.sqrt(low * high)
        inside = norm.size(moved(middle) - example.image) <= example.epsilon
        return jnp.where(inside, middle, low), jnp.where(inside, high, middle)

    low, _ = jax.lax.fori_loop(0, 36, halve, (1e-6 * span, 1e6 * span))
    return project(norm, moved(low), example)
