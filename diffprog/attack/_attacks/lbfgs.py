"""The first attack on neural networks, by box-constrained L-BFGS (Szegedy et al. 2014)."""

from functools import lru_cache
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from diffprog.attack._engine import border
from diffprog.attack._engine.bisection import Rounds, first_round, plan, restarted, told
from diffprog.attack._engine.method import Method, smaller
from diffprog.attack._engine.queries import by_gradient
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._losses import cross_entropy, of_label, other_class
from diffprog.attack._norms import l2
from diffprog.optimize import _lbfgsb as lbfgsb


def lbfgs(
    model,
    images,
    labels,
    *,
    key=None,
    binary_search_steps: int = 15,
    max_steps: int = 150,
    initial_const: float = 1e-2,
    memory_size: int = 10,
    **options: Unpack[Options],
) -> AttackResult:
    """The smallest perturbation in L2 by L-BFGS-B (Szegedy et al. 2014, section 4.1).

    Minimizes |r|^2 + c loss(x + r) in the box, where the loss is -log of the target's probability, or untargeted, -log
    of the probability that it is not the label. Both are bounded below, so there is a minimum for each c; the smallest
    c whose minimum is a success is found by bisection, for each image its own. The paper writes c |r| + loss: its c
    is large where this one is small. And |r|^2 is smooth where r = 0, at which every search begins; |r| is not.

    The optimizer is `diffprog.optimize._lbfgsb`: every image has its own curvature, line search and end.

    searches: values of c that are tried.
    steps:    evaluations of loss and gradient in each search at most.
    weight:   the first c; tenfold until the first success, then halfway between failure and success.
    memory:   steps that L-BFGS-B remembers.
    Other arguments are those of `pgd`; nothing is drawn, so `key` is not needed.
    """
    border.checked_counts(binary_search_steps=binary_search_steps, max_steps=max_steps, memory_size=memory_size)
    border.checked_positive(initial_const=initial_const)
    method = _method(of_label(cross_entropy if options.get("targeted") else other_class), memory_size)
    return search(
        model,
        images,
        labels,
        method,
        max_steps=binary_search_steps * max_steps,
        key=key,
        given=plan(initial_const, binary_search_steps, max_steps),
        **options,
    )


class State(NamedTuple):
    """A search of L-BFGS-B over the flattened image, and which it is."""

    point: jax.Array
    search: lbfgsb.SearchState
    rounds: Rounds
    done: jax.Array


@lru_cache
def _method(loss, memory_size):
    def start(example, given):
        search = lbfgsb.init(example.image.reshape(-1), memory_size)
        return State(example.image, search, first_round(given), jnp.array(False))

    def learn(example, given, state, view):
        moved = state.point - example.image
        value = jnp.sum(moved**2) - state.rounds.weight * view.value
        gradient = 2 * moved - state.rounds.weight * view.gradient
        lower, upper = example.lower.reshape(-1), example.upper.reshape(-1)
        search = lbfgsb.update(state.search, value, gradient.reshape(-1), lower, upper)
        arrived = jnp.all(search.best == state.search.point)  # steps that were only tried say nothing about the minimum
        found = jnp.where(arrived, view.hit, state.rounds.found)
        rounds, ended, done = told(state.rounds, given, found, search.status != lbfgsb.SEARCHING)
        search = restarted(ended, lbfgsb.init(example.image.reshape(-1), memory_size), search)
        return State(search.point.reshape(moved.shape), search, rounds, done)

    return Method("lbfgs", start, learn, by_gradient, loss, l2, smaller)
