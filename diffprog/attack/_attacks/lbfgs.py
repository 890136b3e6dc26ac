"""The first attack on neural networks, by box-constrained L-BFGS."""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog._util.trees import tree_where
from diffprog.attack._engine import validation
from diffprog.attack._engine.bisection import BinarySearch, advance, first_round, limits
from diffprog.attack._engine.method import AttackSpec, smaller_norm
from diffprog.attack._engine.options import SteeredOptions, documents_options, parse_options
from diffprog.attack._engine.oracle import Model, query_gradient
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import run_attack
from diffprog.attack._losses import cross_entropy, other_class
from diffprog.attack._norms import l2
from diffprog.optimize._methods import lbfgsb, quasi_newton
from diffprog.optimize._search.optimizer import SEARCHING

TOLERANCES = quasi_newton.Tolerances(gradient=1e-5, value=1e-7)


@documents_options
def lbfgs(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    binary_search_steps: int = 15,
    max_steps: int = 150,
    initial_const: float = 1e-2,
    history_size: int = 10,
    **options: Unpack[SteeredOptions],
) -> AttackResult:
    """Find the minimum perturbation in L2 by L-BFGS-B.

    It minimizes |r|^2 + c loss(x + r) in the box, where the loss is -log of the target's probability, or untargeted,
    -log of the probability that it is not the label. Both are bounded below, so there is a minimum for each c. The
    smallest c whose minimum is a success is found by bisection, for each image its own: tenfold until the first
    success, then halfway between failure and success. The paper writes c |r| + loss: its c is large where this one is
    small. And |r|^2 is smooth where r = 0, at which every round begins; |r| is not.

    Every image has its own curvature, line search and end.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: not needed; nothing is drawn.
      binary_search_steps: values of c that are tried.
      max_steps: evaluations of loss and gradient for each of them, at most.
      initial_const: the first c.
      history_size: steps that L-BFGS-B remembers.
      **options: shared options.

    Returns:
      The smallest success of each image, or the image itself.

    References:
      Szegedy et al. 2014, section 4.1.
    """
    settings = parse_options(options)
    validation.check_counts(binary_search_steps=binary_search_steps, max_steps=max_steps, history_size=history_size)
    validation.check_positive(initial_const=initial_const)
    spec = _spec(cross_entropy if settings.targeted else other_class, history_size)
    steps, rounds = binary_search_steps * max_steps, limits(initial_const, binary_search_steps, max_steps)
    return run_attack(model, images, labels, spec, settings, steps, rounds, key=key)


class State(NamedTuple):
    """A run of L-BFGS-B over the flattened image, and which round of the binary search it is."""

    point: jax.Array
    minimization: quasi_newton.Search
    search: BinarySearch
    done: jax.Array


@factory
def _spec(loss, history_size):
    def init(example, limits):
        minimization = quasi_newton.init(example.image.reshape(-1), history_size)
        return State(example.image, minimization, first_round(limits), jnp.array(False))

    def update(example, limits, state, view):
        perturbation = state.point - example.image
        value = jnp.sum(perturbation**2) - state.search.weight * view.value
        gradient = 2 * perturbation - state.search.weight * view.gradient
        lower, upper = example.lower.reshape(-1), example.upper.reshape(-1)
        minimization = lbfgsb.update(state.minimization, value, gradient.reshape(-1), lower, upper, TOLERANCES)
        # Points that a line search only tries say nothing about the minimum.
        arrived = jnp.all(minimization.best == state.minimization.point)
        succeeded = jnp.where(arrived, view.is_adversarial, state.search.succeeded)
        stopped = minimization.status != SEARCHING
        search, ended, done = advance(state.search, limits, succeeded, stopped)
        minimization = tree_where(ended, quasi_newton.init(example.image.reshape(-1), history_size), minimization)
        return State(minimization.point.reshape(perturbation.shape), minimization, search, done)

    return AttackSpec("lbfgs", init, update, query_gradient, loss, l2, smaller_norm)
