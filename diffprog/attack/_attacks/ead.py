"""EAD, the elastic-net attack (Chen et al. 2018)."""

from functools import lru_cache
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack._engine import border
from diffprog.attack._engine.bisection import Rounds, checked_progress, first_round, plan, restarted, told
from diffprog.attack._engine.method import Method, smaller
from diffprog.attack._engine.queries import by_gradient
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._norms import l1

RULES = ("elastic_net", "l1")


def ead(
    model,
    images,
    labels,
    *,
    key=None,
    binary_search_steps: int = 9,
    max_steps: int = 1000,
    step_size: float = 1e-2,
    initial_const: float = 1e-3,
    beta: float = 1e-2,
    confidence: float = 0.0,
    decision_rule: str = "elastic_net",
    **options: Unpack[Options],
) -> AttackResult:
    """A small perturbation in |r|^2 + beta |r|_1, of which few elements differ from 0 (Chen et al. 2018, section 4).

    Accelerated iterative shrinkage and thresholding (FISTA) on |r|^2 + c max(confidence - lead, 0), with the loss and
    the bisection of c of `carlini_wagner`. As in the paper's equation 7, an element is set back by `beta` in every
    step, whatever its length, so beta / step_size is the weight that the L1 norm really has.

    Unlike in the authors' program the point at which the gradient is taken is kept in the box. Both it and the iterate
    are asked about, so a step costs two forward passes.

    step_size: of the first step of each search; it falls with the root of the steps that are left.
    beta:      how far an element is set back, for pixels in [0, 1].
    rule:      which of an image's successes is returned: the smallest in "elastic_net", |r|^2 + beta |r|_1, or in "l1".
    Other arguments are those of `carlini_wagner`.
    """
    border.checked_counts(binary_search_steps=binary_search_steps, max_steps=max_steps)
    border.checked_positive(step_size=step_size, initial_const=initial_const, beta=beta)
    border.checked_not_negative(confidence=confidence)
    border.checked_choice(decision_rule, RULES, "decision_rule")
    low, high = border.checked_bounds(options.get("bounds", (0, 1)))
    beta *= high - low
    given = plan(initial_const, binary_search_steps, max_steps), *map(np.float32, (step_size, beta, confidence))
    return search(
        model,
        images,
        labels,
        _method(float(beta) if decision_rule == "elastic_net" else None),
        key=key,
        given=given,
        max_steps=binary_search_steps * max_steps,
        confidence=confidence,
        **options,
    )


class State(NamedTuple):
    """An iterate, and the point ahead of it where the gradient is taken."""

    point: jax.Array
    ahead: jax.Array
    rounds: Rounds
    done: jax.Array


def look(oracle, loss, states, examples, given, keys):
    """The gradient ahead, with the value there as `extra`; the verdict on the iterate."""
    ahead = by_gradient(oracle, loss, states._replace(point=states.ahead), examples, given, keys)
    value, logits = oracle.ask(states.point, examples, keys, loss)
    return ahead._replace(logits=logits, value=value, hit=oracle.hit(logits, examples), extra=ahead.value, queries=2)


@lru_cache
def _method(beta):
    norm = l1
    if beta is not None:
        norm = l1._replace(name="elastic_net", size=lambda r: jnp.sum(r**2) + beta * jnp.sum(jnp.abs(r)))

    def start(example, given):
        return State(example.image, example.image, first_round(given[0]), jnp.array(False))

    def learn(example, given, state, view):
        plan, step_size, beta, confidence = given
        moved, ahead = state.point - example.image, state.ahead - example.image
        objective = jnp.sum(moved**2) + beta * jnp.sum(jnp.abs(moved))
        objective += state.rounds.weight * jnp.maximum(confidence - view.value, 0)
        rounds, idle = checked_progress(state.rounds, plan, objective)
        rate = step_size * jnp.sqrt(1 - rounds.step / plan.steps)
        wanted = jnp.where(view.extra < confidence, rounds.weight, 0)
        gone = ahead - rate * (2 * ahead - wanted * view.gradient)
        shrunk = jnp.sign(gone) * jnp.maximum(jnp.abs(gone) - beta, 0)
        point = jnp.clip(example.image + shrunk, example.lower, example.upper)
        momentum = rounds.step / (rounds.step + 3)
        ahead = jnp.clip(point + momentum * (point - state.point), example.lower, example.upper)
        rounds, ended, done = told(rounds, plan, rounds.found | view.hit, idle)
        return State(*restarted(ended, (example.image, example.image), (point, ahead)), rounds, done)

    return Method("ead", start, learn, look, norm=norm, better=smaller)
