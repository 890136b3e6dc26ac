"""EAD, the elastic-net attack."""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
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
from diffprog.attack._norms import l1

DECISION_RULES = ("elastic_net", "l1")


@documents_options
def ead(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    binary_search_steps: int = 9,
    max_steps: int = 1000,
    step_size: ArrayLike = 1e-2,
    initial_const: float = 1e-3,
    beta: float = 1e-2,
    decision_rule: str = "elastic_net",
    **options: Unpack[SteeredOptions],
) -> AttackResult:
    """Find a small perturbation in |r|^2 + beta |r|_1, of which few elements differ from 0.

    Accelerated iterative shrinkage and thresholding (FISTA) minimizes |r|^2 + c max(confidence - lead, 0), with the
    lead and the bisection of c of `carlini_wagner`. As in the paper's equation 7, an element is set back by `beta` in
    every step, whatever its length, so beta / step_size is the weight that the L1 norm really has.

    Unlike in the authors' program the point at which the gradient is taken is kept in the box. Both it and the iterate
    are queried, so a step costs two forward passes.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: not needed; nothing is drawn.
      binary_search_steps: values of c that are tried.
      max_steps: steps for each of them, at most.
      step_size: of the first step of each round, or one per image (n,); it falls with the root of the steps that are
        left.
      initial_const: the first c.
      beta: how far an element is set back, for pixels in [0, 1].
      decision_rule: which of an image's successes is returned: the smallest in "elastic_net", |r|^2 + beta |r|_1, or
        in "l1".
      **options: shared options.

    Returns:
      The smallest success of each image, or the image itself.

    References:
      Chen et al. 2018, section 4.
    """
    validation.check_counts(binary_search_steps=binary_search_steps, max_steps=max_steps)
    validation.check_positive(initial_const=initial_const, beta=beta)
    validation.check_choice(decision_rule, DECISION_RULES, "decision_rule")
    settings = parse_options(options)
    low, high = settings.bounds
    extent = np.max(np.subtract(high, low))
    beta *= float(extent) if np.isfinite(extent) else 1.0  # quoted for pixels in [0, 1]
    rounds = limits(initial_const, binary_search_steps, max_steps)
    hyperparameters = rounds, positive("step_size", step_size, images), *map(np.float32, (beta, settings.confidence))
    spec, steps = _spec(float(beta) if decision_rule == "elastic_net" else None), binary_search_steps * max_steps
    return run_attack(model, images, labels, spec, settings, steps, hyperparameters, key=key)


class Iterate(NamedTuple):
    """An iterate, and the point ahead of it where the gradient is taken."""

    point: jax.Array
    ahead: jax.Array


class State(NamedTuple):
    """A run of FISTA, and which round of the binary search it is."""

    iterate: Iterate
    search: BinarySearch
    done: jax.Array

    @property
    def point(self) -> jax.Array:
        """Where the verdict is taken."""
        return self.iterate.point


def query(oracle, loss, states, examples, hyperparameters, keys):
    """Query the gradient ahead, with the value there as `extras`, and the verdict on the iterate."""
    ahead = query_gradient(oracle, loss, Iterate(states.iterate.ahead, None), examples, hyperparameters, keys)
    value, logits = oracle.evaluate(states.point, examples, keys, loss)
    is_adversarial = oracle.is_adversarial(logits, examples.label)
    return ahead._replace(logits=logits, value=value, is_adversarial=is_adversarial, extras=ahead.value, queries=2)


@factory
def _spec(beta):
    norm = l1
    if beta is not None:
        norm = l1._replace(name="elastic_net", size=lambda r: jnp.sum(r**2) + beta * jnp.sum(jnp.abs(r)))

    def init(example, hyperparameters):
        first_iterate = Iterate(example.image, example.image)
        return State(first_iterate, first_round(hyperparameters[0]), jnp.array(False))

    def update(example, hyperparameters, state, view):
        limits, step_size, beta, confidence = hyperparameters
        perturbation, ahead = state.point - example.image, state.iterate.ahead - example.image
        objective = jnp.sum(perturbation**2) + beta * jnp.sum(jnp.abs(perturbation))
        objective += state.search.weight * jnp.maximum(confidence - view.value, 0)
        search, stalled = check_progress(state.search, limits, objective)
        length = step_size * jnp.sqrt(1 - search.step / limits.max_steps)
        weight = jnp.where(view.extras < confidence, search.weight, 0)
        moved = ahead - length * (2 * ahead - weight * view.gradient)
        shrunk = jnp.sign(moved) * jnp.maximum(jnp.abs(moved) - beta, 0)
        point = example.clip(example.image + shrunk)
        momentum = search.step / (search.step + 3)
        iterate = Iterate(point, example.clip(point + momentum * (point - state.point)))
        search, ended, done = advance(search, limits, search.succeeded | view.is_adversarial, stalled)
        return State(tree_where(ended, Iterate(example.image, example.image), iterate), search, done)

    return AttackSpec("ead", init, update, query, norm=norm, better=smaller_norm)
