"""How an attack asks the model about its points: each look is one batched question of so many passes."""

from functools import lru_cache

import jax
import jax.numpy as jnp

from diffprog.attack._engine.method import View
from diffprog.optimize._engine import value_and_grad, vjp


def by_gradient(oracle, loss, states, examples, given, keys):
    """One forward and one backward pass: the value, the logits and the gradient of the value."""

    def total(points):
        values, logits = oracle.ask(points, examples, keys, loss)
        return values.sum(), (values, logits)  # a sum: no image's gradient is scaled by how many others there are

    (_, (values, logits)), gradient = value_and_grad(oracle.engine)(total, has_aux=True)(states.point)
    gradient = gradient * (examples.upper > examples.lower)
    return View(logits, values, oracle.hit(logits, examples), gradient, gradients=1)


@lru_cache
def by_jacobian(weightings):
    """A look at gradients of sums of logits, all from one pullback that is mapped over them.

    weightings: (oracle, examples, logits [n, classes]) -> [n, k, classes]. The view's `extra` is (sums [n, k],
        gradients [n, k, ...]).
    """

    def look(oracle, loss, states, examples, given, keys):
        def ask(points):
            values, logits = oracle.ask(points, examples, keys, loss)
            return logits, values

        logits, pullback, values = vjp(oracle.engine)(ask, states.point, has_aux=True)
        weights = weightings(oracle, examples, logits)
        gradients = jax.vmap(lambda weight: pullback(weight)[0], 1, 1)(weights)
        gradients = gradients * (examples.upper > examples.lower)[:, None]
        sums = jnp.sum(weights * logits[:, None], axis=-1)
        hit = oracle.hit(logits, examples)
        return View(logits, values, hit, extra=(sums, gradients), gradients=weights.shape[1])

    return look


def by_logits(oracle, loss, states, examples, given, keys):
    """One forward pass: the value and the logits."""
    values, logits = oracle.ask(states.point, examples, keys, loss)
    return View(logits, values, oracle.hit(logits, examples))
