"""Fit a network to handwritten digits by full-batch, mini-batch and single-example gradient descent.

python -m demos.fit_parameters
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from demos.command_line import add_engine, launch, positive
from diffprog.fit import Fit, fit, load_digits, mlp
from diffprog.images import save_png

SIZES = (64, 64, 10)


class Variant(NamedTuple):
    name: str
    batch: int
    rate: float
    momentum: float | None


VARIANTS = (
    Variant("full batch", 1440, 0.4, None),
    Variant("full batch, momentum", 1440, 0.3, 0.9),
    Variant("mini-batch", 32, 0.3, None),
    Variant("mini-batch, momentum", 32, 0.03, 0.9),
    Variant("single example", 1, 0.03, None),
    Variant("single example, momentum", 1, 0.003, 0.9),
)


def main(arguments=None):
    launch("fit_parameters", parser(), run, arguments)


def parser():
    parser = argparse.ArgumentParser(
        prog="python -m demos.fit_parameters",
        description="Train a 64-64-10 ReLU network on 1440 handwritten digits (8 x 8 pixels) six times with the same "
        "loop: full batch, mini-batch and single example, each with and without momentum. Prints a table "
        "and draws the loss curves.",
    )
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
    return parser


def run(options):
    options.out.parent.mkdir(parents=True, exist_ok=True)  # before the work: a bad place is refused at once
    train, test = load_digits()
    key = jax.random.key(options.seed)
    first_weights = mlp.initialize(jax.random.fold_in(key, 0), SIZES)
    width = max(len(variant.name) for variant in VARIANTS)
    fits = []
    for variant in VARIANTS:
        optimizer = optax.sgd(variant.rate, momentum=variant.momentum)
        fits.append(
            fit(
                mlp.apply,
                first_weights,
                train,
                test,
                optimizer,
                batch=variant.batch,
                epochs=options.epochs,
                key=jax.random.fold_in(key, 1),
                engine=options.engine,
                progress=f"{variant.name:{width}}",
            )
        )
    print(table(fits))
    path = save_png(options.out, draw(fits))
    best = max(fits, key=lambda each: each.test_accuracy[-1])
    print(f"best test accuracy {best.test_accuracy[-1]:.1%}; curves in {path}")


def table(fits: list[Fit]) -> str:
    """One row per variant: what was done and what came of it."""
    head = ("batch", 6), ("rate", 8), ("momentum", 10), ("steps", 8), ("train loss", 12), ("test acc.", 11)
    lines = [f"{'gradient descent':26}" + "".join(f"{title:>{width}}" for title, width in head)]
    for (name, batch, rate, momentum), fitted in zip(VARIANTS, fits, strict=True):
        steps = round(fitted.epochs[-1] * VARIANTS[0].batch / batch)
        lines.append(
            f"{name:26}{batch:6}{rate:8}{momentum or '-':>10}{steps:8}"
            f"{fitted.train_loss[-1]:12.4f}{fitted.test_accuracy[-1]:11.1%}"
        )
    return "\n".join(lines)


def draw(fits: list[Fit]) -> np.ndarray:
    """Loss and test error over epochs; batch size by color and marker, momentum by dashes and hollow markers."""
    looks = {1440: ("#0072B2", "s"), 32: ("#D55E00", "o"), 1: ("#009E73", "^")}
    figure = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    loss, error = figure.subplots(1, 2)
    for index, (variant, fitted) in enumerate(zip(VARIANTS, fits, strict=True)):
        color, marker = looks[variant.batch]
        every = max(1, len(fitted.epochs) // 7)
        dashes, face = ("--", "white") if variant.momentum else ("-", color)
        style = dict(
            label=variant.name,
            color=color,
            linewidth=1.6,
            linestyle=dashes,
            marker=marker,
            markersize=6,
            markerfacecolor=face,
            markevery=(index * every // 6, every),
        )
        loss.plot(fitted.epochs, fitted.train_loss, **style)
        error.plot(fitted.epochs, 100 * (1 - fitted.test_accuracy), **style)
    loss.set(title="Training loss", ylabel="mean cross-entropy, nats", yscale="log")
    error.set(title="Test error", ylabel="digits read wrongly, %", yscale="log")
    for axes in (loss, error):
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("epochs (passes over the 1440 training digits)")
        axes.set_xlim(0, fits[0].epochs[-1])
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *loss.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, handlelength=3.5
    )
    return pixels(figure)


def pixels(figure) -> np.ndarray:
    """A matplotlib figure as float32 [height, width, 3] in [0, 1]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(np.float32) / 255


if __name__ == "__main__":
    main()
