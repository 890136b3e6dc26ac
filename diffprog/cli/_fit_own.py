"""Fit parameters of the user's: a loss by name, data from a file, in a directory that a killed run goes on in."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax

from diffprog._util.files import read_arrays, write_arrays
from diffprog.cli._command_line import load_function
from diffprog.fit import fit
from diffprog.optimize._trainable import path_text, split

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "nesterov": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "adam": optax.adam,
    "adamw": optax.adamw,
    "lion": optax.lion,
    "rmsprop": optax.rmsprop,
    "adagrad": optax.adagrad,
    "lbfgs": lambda rate: optax.lbfgs(),
}


def run(options: argparse.Namespace) -> None:
    """Fit, write parameters and curves into the directory, and say how it ended."""
    loss, arguments = load_function(options.loss)
    parameters, data = _parameters_and_data(options, arguments)
    directory = options.directory
    fitted = fit(
        loss,
        parameters,
        data,
        OPTIMIZERS[options.optimizer](options.learning_rate),
        epochs=options.epochs,
        batch_size=options.batch_size,
        key=options.seed,
        validation=read_data(options.validation) if options.validation else None,
        directory=directory,
        engine=options.engine,
        progress="fitting",
    )
    if not fitted.finished:
        interrupted = fitted.reason.startswith("interrupted")
        remedy = "and the same command goes on there" if interrupted else "with the history up to there"
        raise ValueError(f"{fitted.reason}; what was done is in {directory}, {remedy}")
    written = [write_arrays(directory / "parameters.npz", named_arrays(fitted.parameters))]
    try:
        written.append(fitted.save_curves(directory / "curves.png"))
    except ModuleNotFoundError:
        print("curves.png is not drawn: that needs matplotlib, `pip install 'diffprog[demos]'`")
    last = fitted.history[-1] if fitted.history else {}
    losses = [f"{name.replace('_', ' ')} {last[name]:.6g}" for name in ("loss", "validation_loss") if name in last]
    print(
        f"{fitted.reason}; {', '.join(losses)}\nwritten: {', '.join(map(str, written))}, {directory / 'history.jsonl'}"
    )


def read_data(path: str) -> dict[str, np.ndarray]:
    """Read examples: the arrays of an .npz file by name.

    Raises:
      ValueError: it is no such file; one sentence.
    """
    try:
        return read_arrays(path)
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"data must be an .npz file of arrays, as np.savez writes it; found {path} ({error})"
        ) from None


def named_arrays(parameters: Any) -> dict[str, np.ndarray]:
    """Name the arrays of fitted parameters by their paths."""
    trainable, _ = split(parameters)
    leaves, _ = jax.tree_util.tree_flatten_with_path(trainable)
    return {path_text(path) or "parameters": np.asarray(leaf) for path, leaf in leaves}


def _parameters_and_data(options: argparse.Namespace, arguments: Sequence[Any]) -> tuple[Any, Any]:
    if len(arguments) not in (1, 2):
        raise ValueError(
            f"{options.loss} must return (loss, (parameters,)) or (loss, (parameters, data)); found {len(arguments)} "
            "arguments"
        )
    if options.data:
        return arguments[0], read_data(options.data)
    if len(arguments) == 1:
        raise ValueError(f"{options.loss} returns no data: give a file, --data FILE.npz")
    return arguments[0], arguments[1]
