"""One thing that is learned for many images: by ascent on the mean loss over random batches of them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffprog.attack._engine import border
from diffprog.attack._engine.method import Example, Oracle
from diffprog.attack._losses import of_label
from diffprog.optimize import Descent


class Data(NamedTuple):
    """Of many images, or of a batch of them."""

    images: jax.Array  # float32 [n, ...]
    labels: jax.Array  # int32 [n]
    lower: jax.Array  # float32 [n, ...], the box of each
    upper: jax.Array


def checked_data(images, labels, mask=None, bounds=(0.0, 1.0), **_) -> Data:
    """What is learned from, checked as in a search."""
    images = border.checked_images(images, bounds)
    return Data(images, border.checked_labels(labels, len(images)), *border.checked_box(images, mask, bounds))


def learn(
    model,
    data: Data,
    make: Callable,
    start,
    optimizer,
    project: Callable,
    *,
    key,
    max_steps,
    minibatch_size,
    loss,
    max_loss,
    targeted=False,
    engine="diffprog",
    progress=None,
    **_,
):
    """The parameter after `steps` steps from `start`, and the mean loss before each.

    make:    (parameter, a batch of `Data`, keys [n]) -> points [n, ...], where the parameter has been put to use.
    minibatch:  images per step, drawn anew without repetition; all of them if there are not more.
    cap:     what an image's loss counts at most.
    """
    border.checked_counts(max_steps=max_steps, minibatch_size=minibatch_size)
    border.checked_positive(max_loss=max_loss)
    oracle, loss, count = Oracle(model, bool(targeted), None, engine), of_label(loss), len(data.images)

    def objective(parameter, step):
        row_key, make_key, draw_key = jax.random.split(step.key, 3)
        rows = jax.random.choice(row_key, count, (min(minibatch_size, count),), replace=False)
        batch = jax.tree.map(lambda leaf: leaf[rows], step.data)
        make_keys, draw_keys = (
            jax.vmap(lambda row: jax.random.fold_in(each, row))(rows) for each in (make_key, draw_key)
        )
        examples = Example(batch.images, batch.labels, batch.labels, None, batch.lower, batch.upper, draw_keys)
        points = jnp.clip(make(parameter, batch, make_keys), batch.lower, batch.upper)
        return jnp.minimum(oracle.ask(points, examples, draw_keys, loss)[0], max_loss).mean()

    descent = Descent(objective, optimizer, project=lambda each, _: project(each), maximize=True, engine=engine)
    state = descent.init(start, key=border.checked_key(key))
    state, history = descent.run(state, max_steps, data=jax.tree.map(jnp.asarray, data), progress=progress)
    return state.parameters, history.value
