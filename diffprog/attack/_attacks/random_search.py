"""Attacks that try points one after another, and learn nothing from them but which was best."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffprog._util.factory import factory
from diffprog.attack._engine.method import AttackSpec
from diffprog.attack._engine.options import Settings
from diffprog.attack._engine.oracle import Model, query_logits
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import no_loss, run_attack
from diffprog.attack._norms import Norm, linf


class State(NamedTuple):
    """A point, and whether all have been tried."""

    point: jax.Array
    done: jax.Array


@factory
def random_search(name: str, sample: Callable[..., jax.Array], norm: Norm = linf) -> AttackSpec:
    """Make an attack that queries samples and keeps the largest loss; `run_random_search` runs it.

    Args:
      name: of the attack.
      sample: (example, hyperparameters, index, key) -> the point number `index`; the key is the image's and the
        index's.
      norm: of the budget.
    """

    def point(example, hyperparameters, index):
        return sample(example, hyperparameters[1:], index, jax.random.fold_in(example.key, index))

    def init(example, hyperparameters):
        return State(point(example, hyperparameters, 0), jnp.array(False))

    def update(example, hyperparameters, state, view):
        index = view.step + 1
        return State(point(example, hyperparameters, index), index >= hyperparameters[0])

    return AttackSpec(name, init, update, query_logits, norm=norm)


def judged_by_criterion(spec: AttackSpec, settings: Settings) -> AttackSpec:
    """Let a criterion of the user's, who has not given a loss, choose alone: it may read other labels than classes."""
    return spec if settings.criterion is None else spec._replace(loss=no_loss)


def run_random_search(
    model: Model,
    images: Any,
    labels: Any,
    spec: AttackSpec,
    settings: Settings,
    num_samples: int,
    hyperparameters: tuple = (),
    **arguments: Any,
) -> AttackResult:
    """Query so many samples of each image.

    The loop is given one step more, which is never taken: after the last step of a search it would query once more.
    """
    hyperparameters = (jnp.int32(num_samples), *hyperparameters)
    return run_attack(model, images, labels, spec, settings, num_samples + 1, hyperparameters, **arguments)
