"""Fit a network to handwritten digits by full-batch, mini-batch and single-example gradient descent.

    %(prog)s
    %(prog)s --epochs 20 --engine jax

A 64-64-10 ReLU network is trained on 1440 digits (8 x 8 pixels) six times with the same loop: full batch, mini-batch
and single example, each with and without momentum. A table is printed, and the curves are drawn.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import optax

from diffprog._util.tables import text_table
from diffprog.cli._command_line import add_engine, command_parser, launch, positive
from diffprog.fit import Fit, fit, load_digits, mlp
from diffprog.images import save_png

SIZES = (64, 64, 10)


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


def main(arguments: Sequence[str] | None = None, prog: str = "diffprog fit") -> None:
    """Run the command."""
    parser = command_parser(prog, __doc__)
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
    launch(parser, run, arguments)


def run(options: argparse.Namespace) -> None:
    """Train the variants, print their table and draw their curves."""
    from diffprog.cli import _pictures as pictures  # Matplotlib, which an extra brings

    options.out.parent.mkdir(parents=True, exist_ok=True)  # before the work: a bad place is refused at once
    train, test = load_digits()
    key = jax.random.key(options.seed)
    first_weights = mlp.initialize(jax.random.fold_in(key, 0), SIZES)
    width = max(len(variant.name) for variant in VARIANTS)
    fits = []
    for variant in VARIANTS:
        optimizer = optax.sgd(variant.learning_rate, momentum=variant.momentum)
        fits.append(
            fit(
                mlp.apply,
                first_weights,
                train,
                test,
                optimizer,
                batch_size=variant.batch_size,
                epochs=options.epochs,
                key=jax.random.fold_in(key, 1),
                engine=options.engine,
                progress=f"{variant.name:{width}}",
            )
        )
    print(table(fits))
    curves = [
        (variant.name, variant.batch_size, variant.momentum is not None, fitted)
        for variant, fitted in zip(VARIANTS, fits, strict=True)
    ]
    path = save_png(options.out, pictures.fit_curves(curves))
    best = max(fits, key=lambda fitted: fitted.test_accuracy[-1])
    print(f"best test accuracy {best.test_accuracy[-1]:.1%}; curves in {path}")


def table(fits: list[Fit]) -> str:
    """Write a row for each variant: its settings, and the loss and accuracy it reached."""
    rows = [["gradient descent", "batch size", "learning rate", "momentum", "steps", "train loss", "test acc."]]
    for (name, batch_size, learning_rate, momentum), fitted in zip(VARIANTS, fits, strict=True):
        steps = round(fitted.epochs[-1] * VARIANTS[0].batch_size / batch_size)
        settings = [batch_size, learning_rate, momentum or "-", steps]
        results = [f"{fitted.train_loss[-1]:.4f}", f"{fitted.test_accuracy[-1]:.1%}"]
        rows.append([name, *map(str, settings), *results])
    return "\n".join(text_table(rows, "<>"))
