"""Fitting parameters to labeled examples. Full batch, mini-batch and single-example descent differ in one number."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from diffprog._transforms.closures import Lifted, lift
from diffprog._util.promotion import own_promotion
from diffprog.fit._digits import Examples
from diffprog.optimize import Descent


class Fit(NamedTuple):
    """Fitted parameters, and curves that start before the first step and have a point per epoch.

    Attributes:
      parameters: pytree of arrays.
      epochs: examples seen, in passes over the training set.
      train_loss: mean cross-entropy over the whole training set, in nats.
      test_accuracy: fraction of the test set in [0, 1].
    """

    parameters: Any
    epochs: np.ndarray
    train_loss: np.ndarray
    test_accuracy: np.ndarray


def fit(
    apply: Callable[[Any, Any], jax.Array],
    parameters: Any,
    train: Examples,
    test: Examples,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    epochs: int,
    key: jax.Array,
    perturb: Callable[..., jax.Array] | None = None,
    engine: str = "diffprog",
    progress: str | None = None,
) -> Fit:
    """Minimize the mean cross-entropy of a network over labeled examples.

    Every epoch visits each example once, in an order of its own. Loss and accuracy are measured after each epoch on all
    examples, so that curves of different batch sizes compare.

    Args:
      apply: `apply(parameters, inputs)`, logits (n, classes) of inputs (n, features).
      parameters: pytree of float arrays to begin with.
      train: examples to fit.
      test: examples to measure the accuracy on.
      optimizer: an Optax gradient transformation.
      batch_size: examples per step, from 1 to all of `train`.
      epochs: passes over `train`.
      key: random key of the order of the examples and of `perturb`.
      perturb: `perturb(apply, parameters, inputs, labels, key) -> inputs`, makes the inputs of a step from its
        examples: augmented ones, or adversarial ones (`diffprog.attack.adversarial_training`). No gradient flows
        through it.
      engine: whose gradients, "diffprog" or "jax".
      progress: caption of a progress bar; None shows none.

    Returns:
      The fitted parameters and the curves.

    Raises:
      ValueError: `batch_size` is not between 1 and the number of training examples.
    """
    num_examples = len(train.labels)
    if not 1 <= batch_size <= num_examples:
        raise ValueError(f"batch_size must be between 1 and the {num_examples} training examples; found {batch_size}")

    def objective(parameters, step):
        inputs, labels, order = step.data
        indices = jax.lax.dynamic_slice_in_dim(order, step.num_steps * batch_size, batch_size)
        batch = inputs[indices]
        if perturb:
            batch = perturb(apply, jax.lax.stop_gradient(parameters), batch, labels[indices], step.key)
        return mean_cross_entropy(apply(parameters, jax.lax.stop_gradient(batch)), labels[indices])

    loop = Descent(objective, optimizer, engine=engine)
    state = loop.init(parameters, key=key)
    network = lift(apply, state.parameters, train.inputs)  # as it is now, whatever it was in an earlier fit
    curve = [(0.0, *_measure(network, state.parameters, train, test))]

    def after_epoch(state, history):
        epoch = int(state.num_steps) * batch_size / num_examples
        curve.append((epoch, *_measure(network, state.parameters, train, test)))

    state, _ = loop.run(
        state,
        epochs * num_examples // batch_size,
        data=(jnp.asarray(train.inputs), jnp.asarray(train.labels), visiting_order(key, num_examples, epochs)),
        block_size=num_examples // batch_size,
        progress=progress,
        callback=after_epoch,
    )
    return Fit(state.parameters, *np.asarray(curve, dtype=np.float64).T)


@jax.jit
def _measure(apply: Lifted, parameters, train: Examples, test: Examples) -> tuple[jax.Array, jax.Array]:
    """Compute the loss over all of `train` and the accuracy on all of `test`."""
    loss = mean_cross_entropy(apply(parameters, train.inputs), train.labels)
    return loss, accuracy(apply(parameters, test.inputs), test.labels)


def visiting_order(key: jax.Array, num_examples: int, epochs: int) -> jax.Array:
    """Draw a permutation of the examples for each epoch.

    Args:
      key: random key.
      num_examples: number of examples.
      epochs: number of permutations.

    Returns:
      Int32 (epochs * num_examples,), one permutation after the other; each depends on the key and its epoch alone.
    """
    keys = jax.vmap(lambda epoch: jax.random.fold_in(key, epoch))(jnp.arange(epochs))
    return jax.vmap(lambda key: jax.random.permutation(key, num_examples))(keys).reshape(-1)


@own_promotion()
def mean_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Compute the mean of -log softmax(logits)[label] over the examples.

    Args:
      logits: (n, classes).
      labels: int (n,).

    Returns:
      A scalar, in nats.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@own_promotion()
def accuracy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Compute the fraction of examples whose label has the largest logit.

    Args:
      logits: (n, classes).
      labels: int (n,).

    Returns:
      A scalar in [0, 1].
    """
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)
