"""How the size of a batch decides what descent costs and where it ends: one network, three sizes, several seeds."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
import optax

from diffprog._util.tables import text_table
from diffprog.fit import Examples, accuracy, fit, load_digits, load_mnist1d, mean_cross_entropy, mlp

NUM_POINTS = 25  # measurements of a run


class Data(NamedTuple):
    """A data set, and the network and settings that it is fitted with.

    Attributes:
      title: for people.
      examples: to train and to test on.
      sizes: of the network's layers.
      plans: (batch size, learning rate, epochs), the batch size None for all examples.
    """

    title: str
    examples: tuple[Examples, Examples]
    sizes: tuple[int, ...]
    plans: tuple[tuple[int | None, float, int], ...]


class Curves(NamedTuple):
    """Runs of one batch size, of all seeds.

    Attributes:
      data: title of the data set.
      batch_size: examples per step.
      learning_rate: of plain gradient descent.
      examples: (points,), seen so far.
      steps: (points,), taken so far.
      seconds: (seeds, points), since the start, compilation apart.
      test_error: (seeds, points), fraction in [0, 1].
      train_loss: (seeds,), over the whole training set at the end, in nats.
      test_loss: (seeds,), over the whole test set at the end, in nats.
    """

    data: str
    batch_size: int
    learning_rate: float
    examples: np.ndarray
    steps: np.ndarray
    seconds: np.ndarray
    test_error: np.ndarray
    train_loss: np.ndarray
    test_loss: np.ndarray


def data_sets() -> dict[str, Data]:
    """Load the data sets by name."""
    return {
        "digits": Data(
            "handwritten digits", load_digits(), (64, 64, 10), ((1, 0.03, 20), (32, 0.3, 60), (None, 0.4, 2000))
        ),
        "mnist1d": Data("MNIST-1D", load_mnist1d(), (40, 100, 10), ((1, 0.01, 20), (32, 0.1, 60), (None, 0.5, 1000))),
    }


def study(data: Data, num_seeds: int, seed: int, engine: str) -> Iterator[Curves]:
    """Run each batch size with several seeds, which decide the first weights and the order of the examples."""
    train, test = data.examples

    def loss(parameters, batch):
        return mean_cross_entropy(mlp.apply(parameters, batch.inputs), batch.labels)

    def error(parameters, batch):
        return 1 - accuracy(mlp.apply(parameters, batch.inputs), batch.labels)

    whole = jax.jit(lambda parameters: (loss(parameters, train), loss(parameters, test)))
    for batch_size, rate, epochs in data.plans:
        batch_size = batch_size or len(train.labels)
        steps = epochs * -(-len(train.labels) // batch_size)
        every = max(1, steps // NUM_POINTS)

        def run(number, steps, batch_size=batch_size, rate=rate, every=every):
            key = jax.random.fold_in(jax.random.key(seed), number)
            return fit(
                loss,
                mlp.initialize(jax.random.fold_in(key, 0), data.sizes),
                train,
                optax.sgd(rate),
                steps=steps,
                batch_size=batch_size,
                key=jax.random.fold_in(key, 1),
                validation=test,
                metrics={"error": error},
                validate_every=every,
                engine=engine,
                progress=f"{data.title}, batch {batch_size:4}, seed {number}",
            )

        run(0, every)  # compiles
        fits = [run(number, steps) for number in range(num_seeds)]
        rows = [[row for row in fitted.history if "validation_error" in row] for fitted in fits]
        losses = np.array([whole(fitted.parameters) for fitted in fits])
        yield Curves(
            data.title,
            batch_size,
            rate,
            _column(rows, "examples")[0],
            _column(rows, "step")[0],
            _column(rows, "seconds"),
            _column(rows, "validation_error"),
            *losses.T,
        )


def _column(runs: Sequence[Sequence[dict]], name: str) -> np.ndarray:
    return np.array([[row[name] for row in rows] for rows in runs])


def table(curves: Sequence[Curves]) -> str:
    """Write a row for each batch size: what it cost, where it ended, and how far seeds differ."""
    rows = [
        ["data", "batch", "rate", "steps", "examples", "seconds", "test error, %", "train loss", "test loss", "gap"]
    ]
    for curve in curves:
        rows.append(
            [
                curve.data,
                str(curve.batch_size),
                f"{curve.learning_rate:g}",
                f"{curve.steps[-1]:,}",
                f"{curve.examples[-1]:,}",
                f"{np.median(curve.seconds[:, -1]):.2f}",
                _mean_and_spread(100 * curve.test_error[:, -1], ".2f"),
                _mean_and_spread(curve.train_loss, ".4f"),
                _mean_and_spread(curve.test_loss, ".3f"),
                f"{np.mean(curve.test_loss - curve.train_loss):.3f}",
            ]
        )
    return "\n".join(text_table(rows, "<>"))


def _mean_and_spread(values: np.ndarray, form: str) -> str:
    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):{form}} \N{PLUS-MINUS SIGN} {spread:{form}}"
