"""One thing that is learned for many images: by ascent on the mean loss over random batches of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffprog._util.warning import warn
from diffprog.attack._engine import validation
from diffprog.attack._engine.method import Example
from diffprog.attack._engine.options import Settings
from diffprog.attack._engine.oracle import Model, Oracle, explain_gradient, usable
from diffprog.attack._engine.result import AttackResult, AttackWarning
from diffprog.attack._losses import ONE_CLASS_LOSSES
from diffprog.optimize import Descent


class Data(NamedTuple):
    """Many images, or a batch of them."""

    images: Any  # float32 [n, ...]
    labels: Any  # int32 [n]
    lower: Any  # float32 [n, ...], the box of each
    upper: Any


def check_data(images: Any, labels: Any, loss: Callable[..., jax.Array], settings: Settings) -> Data:
    """Check what is learned from, as in every attack."""
    images = validation.check_images(images, settings.bounds)
    labels_are_free = settings.criterion is not None and loss not in ONE_CLASS_LOSSES
    labels = validation.check_labels(labels, len(images), labels_are_free)
    return Data(images, labels, *validation.check_box(images, settings.mask, settings.bounds))


def ascend(
    model: Model,
    data: Data,
    apply: Callable[[Any, Data, jax.Array], jax.Array],
    start: Any,
    optimizer: optax.GradientTransformation,
    project: Callable[[Any], Any],
    settings: Settings,
    *,
    key: jax.Array,
    max_steps: int,
    minibatch_size: int,
    loss: Callable[..., jax.Array],
    max_loss: float,
) -> tuple[Any, np.ndarray]:
    """Maximize the mean loss over random minibatches.

    Args:
      model: the model under attack.
      data: what is learned from.
      apply: (parameter, minibatch, keys (n,)) -> points (n, ...), where the parameter has been put to use.
      start: the parameter to begin with.
      optimizer: Optax's.
      project: parameter -> parameter, after each step.
      settings: what every attack takes.
      key: random key.
      max_steps: steps.
      minibatch_size: images per step, drawn anew without repetition; all of them if there are not more.
      loss: (logits, labels) -> (n,).
      max_loss: what an image's loss counts at most.

    Returns:
      The parameter at the end, and before each step the mean of the losses that are finite, (max_steps,).
    """
    validation.check_counts(max_steps=max_steps, minibatch_size=minibatch_size)
    validation.check_positive(max_loss=max_loss)
    oracle = Oracle(model, settings.targeted, None, settings.engine)
    count = len(data.images)

    def objective(parameter, step):
        row_key, apply_key, query_key = jax.random.split(step.key, 3)
        images = jnp.arange(count, dtype=jnp.int32)
        rows = jax.random.choice(row_key, images, (min(minibatch_size, count),), replace=False)
        batch = jax.tree.map(lambda leaf: leaf[rows], step.data)
        keys_of_rows = lambda key: jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
        apply_keys, query_keys = keys_of_rows(apply_key), keys_of_rows(query_key)
        infinite = jnp.full(len(rows), jnp.inf, jnp.float32)
        examples = Example(batch.images, batch.labels, batch.labels, infinite, batch.lower, batch.upper, query_keys)
        points = examples.clip(apply(parameter, batch, apply_keys))
        losses = oracle.evaluate(with_usable_gradient(points), examples, query_keys, loss)[0]
        is_finite = jnp.isfinite(losses)
        return jnp.mean(jnp.minimum(losses, max_loss), where=is_finite | ~is_finite.any())

    descent = Descent(
        objective,
        optimizer,
        project=lambda parameter, _: project(parameter),
        maximize=True,
        engine=settings.engine,
        allow_nonfinite=True,  # losses that are not finite are left out of the mean
    )
    state = descent.init(start, key=validation.check_key(key))
    state, history = descent.run(state, max_steps, data=jax.tree.map(jnp.asarray, data), progress=settings.progress)
    return state.parameters, history.value


@jax.custom_vjp
def with_usable_gradient(points: jax.Array) -> jax.Array:
    """Give points back, whose images' gradients stop no other's where they are not finite."""
    return points


with_usable_gradient.defvjp(lambda points: (points, None), lambda _, gradient: (usable(gradient),))


def warn_of_no_gradient(
    result: AttackResult, start: Any, learned: np.ndarray, model: Model, data: Data
) -> AttackResult:
    """Mark what withstood a search that has not moved, and say why it has not."""
    if not np.array_equal(start, learned) or not result.failure.any():
        return result
    cause = explain_gradient(Oracle(model, False, None, "diffprog"), data.images[:1], data.labels[:1])
    warn(
        f"{result.attack} found no usable gradient, so it did not search: its result says nothing about robustness. "
        f"{cause}",
        AttackWarning,
    )
    return result._replace(no_gradient=result.failure)
