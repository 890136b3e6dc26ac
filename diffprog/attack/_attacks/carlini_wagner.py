"""The attack of Carlini & Wagner in L2."""

from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog._util.trees import tree_where
from diffprog.attack._engine import validation
from diffprog.attack._engine.bisection import BinarySearch, advance, check_progress, first_round, limits
from diffprog.attack._engine.method import AttackSpec, smaller_norm
from diffprog.attack._engine.options import SteeredOptions, documents_options, parse_options
from diffprog.attack._engine.oracle import Model, query_gradient
from diffprog.attack._engine.per_image import positive
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import run_attack
from diffprog.attack._norms import l2

STRETCH = 1.01  # the box that tanh fills, relative to the pixels': its slope at their bounds is then no longer 0


@documents_options
def carlini_wagner(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    binary_search_steps: int = 9,
    max_steps: int = 1000,
    step_size: ArrayLike = 1e-2,
    initial_const: float = 1e-3,
    **options: Unpack[SteeredOptions],
) -> AttackResult:
    """Find the minimum perturbation in L2 by the method of Carlini & Wagner.

    Adam minimizes |r|^2 + c max(confidence - lead, 0) over w, where the image is tanh(w), moved and scaled to the box,
    and `lead` is the largest logit of another class minus the label's (the target's minus the largest other). Each
    image has its own c, found by bisection: tenfold until the first success. It abandons a round when its objective
    stalls.

    Unlike in the paper, tanh fills a box larger by a hundredth, whose overhang is clipped: pixels at 0 or 1 are the
    ends of tanh, where its slope is 0, and could not move. Distances are to the image as it is.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: not needed; nothing is drawn.
      binary_search_steps: values of c that are tried.
      max_steps: steps of Adam for each of them, at most; the authors took 10000.
      step_size: of Adam, in w, or one per image (n,).
      initial_const: the first c.
      **options: shared options.

    Returns:
      The smallest success of each image, or the image itself.

    References:
      Carlini & Wagner 2017, sections V and VI.
    """
    validation.check_counts(binary_search_steps=binary_search_steps, max_steps=max_steps)
    validation.check_positive(initial_const=initial_const)
    settings, rounds = parse_options(options), limits(initial_const, binary_search_steps, max_steps)
    hyperparameters = rounds, positive("step_size", step_size, images), np.float32(settings.confidence)
    steps = binary_search_steps * max_steps
    return run_attack(model, images, labels, _spec(), settings, steps, hyperparameters, key=key)


class Iterate(NamedTuple):
    """Where Adam is."""

    point: jax.Array
    w: jax.Array
    adam: Any  # Optax's state


class State(NamedTuple):
    """A run of Adam, and which round of the binary search it is."""

    iterate: Iterate
    search: BinarySearch
    done: jax.Array

    @property
    def point(self) -> jax.Array:
        """Where the model is queried."""
        return self.iterate.point


@factory
def _spec():
    adam = optax.scale_by_adam()

    def box(example):
        """Center and half the extent of the box that tanh fills; without bounds there is none, and w is the point."""
        return (example.lower + example.upper) / 2, STRETCH * (example.upper - example.lower) / 2

    def first_iterate(example):
        middle, half = box(example)
        inside = jnp.arctanh(jnp.where(half > 0, (example.image - middle) / jnp.where(half > 0, half, 1), 0))
        w = jnp.where(jnp.isfinite(half), inside, example.image)
        return Iterate(example.image, w, adam.init(w))

    def init(example, hyperparameters):
        return State(first_iterate(example), first_round(hyperparameters[0]), jnp.array(False))

    def update(example, hyperparameters, state, view):
        limits, step_size, confidence = hyperparameters
        perturbation = state.point - example.image
        shortfall = jnp.maximum(confidence - view.value, 0)
        objective = jnp.sum(perturbation**2) + state.search.weight * shortfall
        search, stalled = check_progress(state.search, limits, objective)
        middle, half = box(example)
        has_bounds = jnp.isfinite(half)
        slope = jnp.where(has_bounds, half * (1 - jnp.tanh(state.iterate.w) ** 2), 1)
        gradient = (2 * perturbation - jnp.where(shortfall > 0, search.weight, 0) * view.gradient) * slope
        step, adam_state = adam.update(gradient, state.iterate.adam)
        w = state.iterate.w - step_size * step
        point = jnp.where(has_bounds, middle + half * jnp.tanh(w), w)
        iterate = Iterate(example.clip(point), w, adam_state)
        search, ended, done = advance(search, limits, search.succeeded | view.is_adversarial, stalled)
        return State(tree_where(ended, first_iterate(example), iterate), search, done)

    return AttackSpec("carlini_wagner", init, update, query_gradient, norm=l2, better=smaller_norm)
