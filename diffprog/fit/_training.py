"""Fitting parameters to labeled examples. Full batch, mini-batch and single-example descent differ in one number."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffprog.fit._digits import Examples
from diffprog.optimize import Descent


class Fit(NamedTuple):
    """What came of it; the curves start before the first step and have a point per epoch."""

    parameters: Any
    epochs: np.ndarray  # examples seen, in passes over the training set
    train_loss: np.ndarray  # mean cross-entropy over the whole training set, in nats
    test_accuracy: np.ndarray  # fraction in [0, 1]


def fit(
    apply: Callable,
    parameters,
    train: Examples,
    test: Examples,
    optimizer: optax.GradientTransformation,
    *,
    batch: int,
    epochs: int,
    key: jax.Array,
    perturb: Callable | None = None,
    engine: str = "diffprog",
    progress: str | None = None,
) -> Fit:
    """Minimize the mean cross-entropy of `apply(parameters, inputs)` over `train`, `batch` examples per step.

    Every pass visits each example once, in an order of its own. Loss and accuracy are measured after each pass on all
    examples, so that curves of different batch sizes compare. Raises ValueError on a batch size outside 1..len(train).

    perturb: `perturb(apply, parameters, inputs, labels, key) -> inputs`, what to train on instead of the examples of a
        step: augmented ones, or adversarial ones (`diffprog.attack.adversarial_training`). No gradient flows
        through it.
    """
    count = len(train.labels)
    if not 1 <= batch <= count:
        raise ValueError(f"batch must be between 1 and the {count} training examples; found {batch}")
    order = visiting_order(key, count, epochs)

    def objective(parameters, step):
        inputs, labels, order = step.data
        chosen = jax.lax.dynamic_slice_in_dim(order, step.number * batch, batch)
        examples = inputs[chosen]
        if perturb:
            examples = perturb(apply, jax.lax.stop_gradient(parameters), examples, labels[chosen], step.key)
        return mean_cross_entropy(apply(parameters, jax.lax.stop_gradient(examples)), labels[chosen])

    loop = Descent(objective, optimizer, engine=engine)
    state = loop.start(parameters, key=key)
    curve = [(0.0, *measure(apply, state.parameters, train, test))]

    def after_pass(state, history):
        curve.append((int(state.number) * batch / count, *measure(apply, state.parameters, train, test)))

    data = (jnp.asarray(train.inputs), jnp.asarray(train.labels), order)
    state, _ = loop.run(
        state, epochs * count // batch, data=data, block=count // batch, progress=progress, callback=after_pass
    )
    return Fit(state.parameters, *np.asarray(curve, dtype=np.float64).T)


@partial(jax.jit, static_argnums=0)
def measure(apply: Callable, parameters, train: Examples, test: Examples) -> tuple[jax.Array, jax.Array]:
    """The loss over all of `train` and the accuracy on all of `test`."""
    loss = mean_cross_entropy(apply(parameters, train.inputs), train.labels)
    return loss, accuracy(apply(parameters, test.inputs), test.labels)


def visiting_order(key: jax.Array, count: int, epochs: int) -> jax.Array:
    """int32 [epochs * count]: a permutation of 0..count-1 per epoch, which depends on the key and the epoch alone."""
    keys = jax.vmap(lambda epoch: jax.random.fold_in(key, epoch))(jnp.arange(epochs))
    return jax.vmap(lambda key: jax.random.permutation(key, count))(keys).reshape(-1)


def mean_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over the examples of -log softmax(logits)[label], in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Fraction of the examples whose largest logit is their label's."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)
