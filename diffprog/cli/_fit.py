"""Fit parameters by gradient descent: of a network to digits in six ways, or of a loss of yours.

    %(prog)s
    %(prog)s --study --seeds 10
    %(prog)s mypackage.mymodule:make --data examples.npz --optimizer adam --learning-rate 1e-3 --batch-size 32

Without a name, a 64-64-10 ReLU network is trained on 1440 digits (8 x 8 pixels) six times with the same loop: full
batch, mini-batch and single example, each with and without momentum. A table is printed, and the curves are drawn.

With --study, three batch sizes are compared on two data sets over several seeds, against examples seen, steps and
seconds.

A function of yours takes no argument and returns (loss, (parameters,)) or (loss, (parameters, data)), where
loss(parameters, batch) is a scalar. With --data the batch is a dict of the file's arrays, cut along their first axis.
Checkpoints, history, parameters and curves go to --directory; a run that was killed goes on when the same command is
given again, and ends with the same bits.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffprog._util.tables import text_table
from diffprog.cli import _batch_size_study as study
from diffprog.cli import _fit_own as own
from diffprog.cli._command_line import add_engine, command_parser, launch, positive
from diffprog.cli._fit_own import OPTIMIZERS
from diffprog.fit import Examples, accuracy, fit, load_digits, mean_cross_entropy, mlp
from diffprog.images import save_png

SIZES = (64, 64, 10)
DATA_SETS = ("digits", "mnist1d")


class Variant(NamedTuple):
    """One way to descend."""

    name: str
    batch_size: int
    learning_rate: float
    momentum: float | None


VARIANTS = (
    Variant("full batch", 1440, 0.4, None),
    Variant("full batch, momentum", 1440, 0.3, 0.9),
    Variant("mini-batch", 32, 0.3, None),
    Variant("mini-batch, momentum", 32, 0.03, 0.9),
    Variant("single example", 1, 0.03, None),
    Variant("single example, momentum", 1, 0.003, 0.9),
)


class Curve(NamedTuple):
    """What a variant reached, before the first step and after each epoch.

    Attributes:
      epochs: passes over the training set.
      train_loss: mean cross-entropy over the whole training set, in nats.
      test_accuracy: fraction of the test set in [0, 1].
    """

    epochs: np.ndarray
    train_loss: np.ndarray
    test_accuracy: np.ndarray


def main(arguments: Sequence[str] | None = None, prog: str = "diffprog fit") -> None:
    """Run the command."""
    parser = command_parser(prog, __doc__)
    parser.add_argument("loss", nargs="?", metavar="MODULE:NAME", help="fit this loss instead of the digits")
    parser.add_argument("--epochs", type=positive, default=60, help="passes over the training set (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="decides first weights and order of examples (default: 0)")
    parser.add_argument(
        "--out",
        type=Path,
        default="out/fit_parameters.png",
        metavar="FILE",
        help="where the picture goes (default: %(default)s)",
    )
    add_engine(parser)
    sizes = parser.add_argument_group("comparing batch sizes")
    sizes.add_argument("--study", nargs="*", choices=DATA_SETS, help="data sets to compare on (default: all)")
    sizes.add_argument("--seeds", type=positive, default=10, help="runs of each batch size (default: %(default)s)")
    mine = parser.add_argument_group("a loss of yours")
    mine.add_argument("--data", metavar="FILE", help=".npz file of examples")
    mine.add_argument("--validation", metavar="FILE", help=".npz file of examples that are not trained on")
    mine.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="(default: %(default)s)")
    mine.add_argument("--learning-rate", type=float, default=1e-3, help="(default: %(default)s)")
    mine.add_argument("--batch-size", type=positive, help="examples per step (default: all)")
    mine.add_argument(
        "--directory", type=Path, default="out/fit", help="where a run is kept and goes on (default: %(default)s)"
    )
    launch(parser, run, arguments)


def run(options: argparse.Namespace) -> None:
    """Do what the options ask for."""
    if options.loss and options.study is not None:
        raise ValueError("give either MODULE:NAME or --study, not both")
    if options.loss:
        own.run(options)
    elif options.study is not None:
        run_study(options)
    else:
        run_variants(options)


def run_study(options: argparse.Namespace) -> None:
    """Compare batch sizes, print their table and draw their curves."""
    from diffprog.cli import _pictures as pictures

    options.out.parent.mkdir(parents=True, exist_ok=True)
    curves: list[study.Curves] = []
    for name, data in study.data_sets().items():
        if name in (options.study or DATA_SETS):
            curves += study.study(data, options.seeds, options.seed, options.engine)
    print(study.table(curves))
    print(f"curves in {save_png(options.out, pictures.batch_size_panels(curves))}")


def run_variants(options: argparse.Namespace) -> None:
    """Train the variants, print their table and draw their curves."""
    from diffprog.cli import _pictures as pictures  # Matplotlib, which an extra brings

    options.out.parent.mkdir(parents=True, exist_ok=True)  # before the work: a bad place is refused at once
    train, test = load_digits()
    key = jax.random.key(options.seed)
    first_weights = mlp.initialize(jax.random.fold_in(key, 0), SIZES)
    width = max(len(variant.name) for variant in VARIANTS)
    fits = []
    for variant in VARIANTS:
        points = [(0.0, *measure(first_weights, train, test))]
        fit(
            loss,
            first_weights,
            train,
            optax.sgd(variant.learning_rate, momentum=variant.momentum),
            batch_size=variant.batch_size,
            epochs=options.epochs,
            key=jax.random.fold_in(key, 1),
            validate_every=len(train.labels) // variant.batch_size,
            callbacks=lambda row, weights, points=points: points.append((row["epoch"], *measure(weights, train, test))),
            engine=options.engine,
            progress=f"{variant.name:{width}}",
        )
        fits.append(Curve(*np.array(points, np.float64).T))
    print(table(fits))
    curves = [
        (variant.name, variant.batch_size, variant.momentum is not None, fitted)
        for variant, fitted in zip(VARIANTS, fits, strict=True)
    ]
    path = save_png(options.out, pictures.fit_curves(curves))
    best = max(fits, key=lambda fitted: fitted.test_accuracy[-1])
    print(f"best test accuracy {best.test_accuracy[-1]:.1%}; curves in {path}")


def loss(weights: list, batch: Examples) -> jax.Array:
    """Compute the mean cross-entropy of the network."""
    return mean_cross_entropy(mlp.apply(weights, jnp.asarray(batch.inputs)), batch.labels)


@jax.jit
def measure(weights: list, train: Examples, test: Examples) -> tuple[jax.Array, jax.Array]:
    """Compute the loss over all of `train` and the accuracy on all of `test`."""
    return loss(weights, train), accuracy(mlp.apply(weights, jnp.asarray(test.inputs)), test.labels)


def table(fits: list[Curve]) -> str:
    """Write a row for each variant: its settings, and the loss and accuracy it reached."""
    rows = [["gradient descent", "batch size", "learning rate", "momentum", "steps", "train loss", "test acc."]]
    for (name, batch_size, learning_rate, momentum), fitted in zip(VARIANTS, fits, strict=True):
        steps = round(fitted.epochs[-1] * VARIANTS[0].batch_size / batch_size)
        settings = [batch_size, learning_rate, momentum or "-", steps]
        results = [f"{fitted.train_loss[-1]:.4f}", f"{fitted.test_accuracy[-1]:.1%}"]
        rows.append([name, *map(str, settings), *results])
    return "\n".join(text_table(rows, "<>"))
