"""DeepFool (Moosavi-Dezfooli et al. 2016)."""

from functools import lru_cache
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack._attacks.fast_gradient import stopped
from diffprog.attack._engine import border
from diffprog.attack._engine.method import Method, smaller
from diffprog.attack._engine.queries import by_jacobian
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._norms import Norm, l2, linf

BEYOND = 1e-4  # of the largest logit: steps that end at a bent boundary come nearer and nearer without crossing it


def deepfool(
    model,
    images,
    labels,
    *,
    key=None,
    norm: Norm = l2,
    max_steps: int = 50,
    num_candidates: int = 10,
    overshoot: float = 0.02,
    **options: Unpack[Options],
) -> AttackResult:
    """A small perturbation in L2 or L-infinity by steps to the nearest boundary, as if the network were linear
    (Moosavi-Dezfooli et al. 2016, algorithm 2 and section 3.3).

    The gradients of all candidates come from one pullback, mapped over them. Unlike in the paper the candidates are
    the largest other logits of each step, not of the first; elements at a bound of the box that a step would push
    farther take no part in it; and a targeted search steps to the boundary between the target and the largest other
    class. The search ends with the first success.

    norm:       `l2` or `linf`.
    candidates: classes that a step compares; as many as there are, if fewer.
    overshoot:  the whole perturbation is longer by this part, in order to cross the boundary.
    Other arguments are those of `pgd`; nothing is drawn, so `key` is not needed.
    """
    norm = border.checked_norm(norm, (l2, linf))
    border.checked_counts(max_steps=max_steps, num_candidates=num_candidates)
    border.checked_not_negative(overshoot=overshoot)
    return search(
        model,
        images,
        labels,
        _method(norm, num_candidates),
        max_steps=max_steps,
        key=key,
        given=np.float32(overshoot),
        **options,
    )


class State(NamedTuple):
    """The perturbation before overshoot and box, and what became of it."""

    point: jax.Array
    total: jax.Array
    done: jax.Array


@lru_cache
def boundaries(num_candidates):
    """Weightings of the logits, [n, candidates, classes], whose sums are 0 at the boundaries to compare."""

    def weights(oracle, examples, logits):
        classes = jnp.arange(logits.shape[1])
        label = (classes == examples.label[:, None])[:, None]
        count = 1 if oracle.targeted else min(num_candidates, logits.shape[1] - 1)
        others = jax.lax.top_k(jnp.where(label[:, 0], -jnp.inf, logits), count)[1]
        away = (classes == others[..., None]).astype(logits.dtype) - label
        return -away if oracle.targeted else away

    return weights


@lru_cache
def _method(norm, num_candidates):
    def start(example, given):
        return State(example.image, jnp.zeros_like(example.image), jnp.array(False))

    def learn(example, given, state, view):
        leads, gradients = view.extra
        free = jax.vmap(lambda each: jnp.where(stopped(each, state.point, example), 0, each))(gradients)
        slopes = jax.vmap(norm.dual)(free)
        gaps = jnp.abs(leads) + BEYOND * jnp.max(jnp.abs(view.logits))
        ways = jnp.where(slopes > 0, gaps / jnp.where(slopes > 0, slopes, 1), jnp.inf)
        nearest = jnp.argmin(ways)
        length = jnp.where(jnp.isfinite(ways[nearest]), ways[nearest], 0)
        total = state.total + length * norm.steepest(free[nearest])
        total = jnp.clip(example.image + total, example.lower, example.upper) - example.image
        point = jnp.clip(example.image + (1 + given) * total, example.lower, example.upper)
        return State(point, total, view.hit)

    return Method("deepfool", start, learn, by_jacobian(boundaries(num_candidates)), norm=norm, better=smaller)
