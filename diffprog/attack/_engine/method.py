"""What an attack is made of: an image's data, what the model says of a point, and how the next point follows."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffprog.attack._losses import margin
from diffprog.attack._norms import Norm, linf


class Example(NamedTuple):
    """One image and what may be done to it. A batch of them has one row per image in every field."""

    image: jax.Array  # float32 [...]
    label: jax.Array  # int32, the class to leave, or with `targeted` to reach
    target_class: jax.Array  # int32, the class that a loss of two classes raises; else the label
    epsilon: jax.Array  # float32, the budget; infinite in a search for the minimum norm
    lower: jax.Array  # float32 [...], the box: bounds of pixels, and the image itself where a mask forbids a change
    upper: jax.Array
    key: jax.Array  # folded from the user's key: the attack's name, the image's number and the restart
    extras: Any = None  # further arrays that an attack needs of an image
    queries_left: Any = None  # int32, what the search may still spend; None: as much as it likes

    @property
    def pixel_range(self) -> jax.Array:
        """Range of a pixel, by which lengths quoted for images in [0, 1] are scaled; 1 without bounds."""
        extent = self.upper - self.lower
        return jnp.max(jnp.where(jnp.isfinite(extent), extent, 1))

    def clip(self, point: jax.Array) -> jax.Array:
        """Bring a point into the box."""
        return jnp.clip(point, self.lower, self.upper)

    def project(self, norm: Norm, point: jax.Array) -> jax.Array:
        """Find the nearest point of the ball and the box together."""
        return norm.project(point, self.image, self.epsilon, self.lower, self.upper)

    def blocked(self, gradient: jax.Array, point: jax.Array) -> jax.Array:
        """Mark the elements at a bound of the box that cannot follow their gradient."""
        return ((point >= self.upper) & (gradient > 0)) | ((point <= self.lower) & (gradient < 0))


class View(NamedTuple):
    """What the model says of `state.point`, and what it cost."""

    logits: jax.Array  # float32 [classes]
    value: jax.Array  # float32, the loss, negated with `targeted`: always to be raised
    is_adversarial: jax.Array  # bool, of the point
    gradient: Any = None  # of the value; zero where the box is a single point. None if the query takes none
    step: Any = None  # int32, steps taken before this one; the loop fills it in
    key: Any = None  # of this step; likewise
    extras: Any = None  # what a special query adds
    queries: Any = 1  # forward passes spent
    backward_passes: Any = 0
    has_gradient: Any = True  # bool, whether the gradient was not all 0; true if the query takes none


class Candidate(NamedTuple):
    """A point that was queried, and what speaks for it."""

    point: Any
    value: Any  # float32
    is_adversarial: Any  # bool
    size: Any  # float32, of the perturbation


def larger_loss(best: Candidate, new: Candidate) -> jax.Array:
    """Prefer a success to a failure, then the larger loss: for attacks within a budget."""
    return (new.is_adversarial & ~best.is_adversarial) | (
        (new.is_adversarial == best.is_adversarial) & (new.value > best.value)
    )


def smaller_norm(best: Candidate, new: Candidate) -> jax.Array:
    """Prefer the smallest success: without one, the image itself is returned."""
    return new.is_adversarial & (~best.is_adversarial | (new.size < best.size))


def latest(best: Candidate, new: Candidate) -> jax.Array:
    """Prefer whatever came last."""
    return new.is_adversarial | ~new.is_adversarial


class AttackSpec(NamedTuple):
    """An attack as functions of ONE example; the loop maps them over a batch and queries the model in between.

    Compiled programs are found by the value of a spec: make it in a `factory`. What may change from call to call
    without another program (step sizes, budgets) goes into `hyperparameters` and `Example`.
    """

    name: str
    # (example, hyperparameters) -> state: a NamedTuple of arrays with a field `point`, where the model is queried
    # first. It lies in the box and the ball, always: it may be returned. A field `done`, if any, ends the search.
    init: Callable[..., Any]
    # (example, hyperparameters, state, view) -> state
    update: Callable[..., Any]
    # (oracle, loss, states, examples, hyperparameters, keys) -> View, of a whole batch
    query: Callable[..., View]
    # (logits [n, classes], labels [n]) -> [n]; `losses.TWO_CLASS_LOSSES` take the target classes [n], too
    loss: Callable[..., jax.Array] | None = margin  # None in the programs, which take it with the oracle
    norm: Norm = linf  # of the budget, or of the perturbation to be made small
    better: Callable[[Candidate, Candidate], jax.Array] = larger_loss  # which candidate to return
    # What a step costs at least. One that may cost more looks to `example.queries_left` itself.
    queries_per_step: int = 1
