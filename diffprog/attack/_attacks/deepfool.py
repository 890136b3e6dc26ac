"""DeepFool: steps to the nearest boundary, as if the network were linear."""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog._util.trees import tree_where
from diffprog.attack._engine import validation
from diffprog.attack._engine.method import AttackSpec, smaller_norm
from diffprog.attack._engine.options import Options, documents_options, parse_options
from diffprog.attack._engine.oracle import Model, query_jacobian
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import run_attack
from diffprog.attack._norms import Norm, l2, linf

BEYOND = 1e-4  # of the largest logit: steps that end at a bent boundary come nearer and nearer without crossing it

FAR = 1e30  # steps along a gradient of almost nothing: their sum stays finite


@documents_options
def deepfool(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    norm: Norm = l2,
    max_steps: int = 50,
    num_candidates: int = 10,
    overshoot: float = 0.02,
    **options: Unpack[Options],
) -> AttackResult:
    """Find a small perturbation in L2 or L-infinity by steps to the nearest boundary.

    The gradients of all candidates come from one pullback. Unlike in the paper the candidates are the largest other
    logits of each step, not of the first. A targeted search steps to the boundary between the target and the largest
    other class. The search ends with the first success.

    Where the box cuts its way short there is a second search, in whose steps elements at a bound that would be pushed
    farther take no part: it succeeds where the first one pushes against the box, and the first is often smaller where
    both succeed.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: not needed; nothing is drawn.
      norm: to be made small, `l2` or `linf`.
      max_steps: steps of each of the two searches.
      num_candidates: classes that a step compares; all of them if there are fewer.
      overshoot: fraction by which the whole perturbation is longer, in order to cross the boundary.
      **options: shared options.

    Returns:
      The smallest success of each image, or the image itself.

    References:
      Moosavi-Dezfooli et al. 2016, algorithm 2 and section 3.3.
    """
    norm = validation.check_norm(norm, (l2, linf))
    validation.check_counts(max_steps=max_steps, num_candidates=num_candidates)
    validation.check_nonnegative(overshoot=overshoot)
    spec, settings, hyperparameters = _spec(norm, num_candidates), parse_options(options), (overshoot, max_steps)
    return run_attack(model, images, labels, spec, settings, 2 * (max_steps + 1), hyperparameters, key=key)


class State(NamedTuple):
    """A point, and the way to it."""

    point: jax.Array
    total: jax.Array  # the perturbation before overshoot; before the box, too, in the first search
    steps: jax.Array  # int32, of this search
    is_cut: jax.Array  # bool, whether the box has cut the way short
    is_second: jax.Array  # bool, whether the search keeps elements at the box from its steps
    done: jax.Array


@factory
def boundaries(num_candidates: int):
    """Weigh the logits, [n, candidates, classes], so that the sums are 0 at the boundaries to compare."""

    def weights(oracle, examples, logits):
        classes = jnp.arange(logits.shape[1])
        is_label = (classes == examples.label[:, None])[:, None]
        count = 1 if oracle.targeted else min(num_candidates, logits.shape[1] - 1)
        others = jax.lax.top_k(jnp.where(is_label[:, 0], -jnp.inf, logits), count)[1]
        away = (classes == others[..., None]).astype(logits.dtype) - is_label
        return -away if oracle.targeted else away

    return weights


@factory
def _spec(norm, num_candidates):
    def start(example, is_second):
        no = jnp.array(False)
        return State(example.image, jnp.zeros_like(example.image), jnp.int32(0), no, jnp.array(is_second), no)

    def update(example, hyperparameters, state, view):
        (overshoot, max_steps), (leads, gradients) = hyperparameters, view.extras
        left_out = lambda slope: state.is_second & example.blocked(slope, state.point)
        free = jax.vmap(lambda slope: jnp.where(left_out(slope), 0, slope))(gradients)
        slopes = jax.vmap(norm.dual)(free)
        gaps = jnp.abs(leads) + BEYOND * jnp.max(jnp.abs(view.logits))
        lengths = jnp.where(slopes > 0, gaps / jnp.where(slopes > 0, slopes, 1), jnp.inf)
        nearest = jnp.argmin(lengths)
        length = jnp.where(jnp.isfinite(lengths[nearest]), lengths[nearest], 0)
        total = state.total + length * norm.steepest(free[nearest])
        boxed = example.clip(example.image + total) - example.image
        total = jnp.where(state.is_second, boxed, jnp.clip(total, -FAR, FAR))
        moved = example.image + (1 + overshoot) * total
        point = example.clip(moved)
        is_cut = state.is_cut | jnp.any(point != moved)
        is_stuck = is_cut & ~state.is_second & jnp.all(point == state.point)
        ended = view.is_adversarial | (state.steps >= max_steps) | is_stuck
        begins_again = ended & ~state.is_second & (state.is_cut | is_stuck)
        further = State(point, total, state.steps + 1, is_cut, state.is_second, ended & ~begins_again)
        return tree_where(begins_again, start(example, is_second=True), further)

    def init(example, hyperparameters):
        return start(example, is_second=False)

    query = query_jacobian(boundaries(num_candidates))
    return AttackSpec("deepfool", init, update, query, norm=norm, better=smaller_norm)
