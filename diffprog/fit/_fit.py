"""`fit`: any differentiable loss over any data, with what a long training run needs around the loop."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import optax
from tqdm import tqdm

from diffprog._util.numbers import check_count, check_positive
from diffprog._util.random_keys import random_key
from diffprog.fit._averaging import average_weights
from diffprog.fit._batches import ArrayBatches
from diffprog.fit._directory import Directory
from diffprog.fit._history import MAX_ROWS
from diffprog.fit._losses import Loss, read_loss
from diffprog.fit._measuring import Measure
from diffprog.fit._modules import as_pytree
from diffprog.fit._objective import differentiate_over, objective_of
from diffprog.fit._precision import in_precision, scaled_value_and_grad
from diffprog.fit._result import Fit
from diffprog.fit._run import Run
from diffprog.fit._stopping import EarlyStop
from diffprog.fit._streams import StreamBatches, is_stream
from diffprog.optimize import Descent, value_and_grad
from diffprog.optimize._trainable import Train

MOST = 2**31 - 1  # steps, as they are counted in int32


def fit(
    loss: Callable,
    parameters: Any,
    data: Any,
    optimizer: optax.GradientTransformation,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    last_batch: str = "short",
    key: Any = 0,
    state: Any = None,
    train: Train = None,
    accumulate: int = 1,
    clip_norm: float | None = None,
    average: float | None = None,
    precision: str | None = None,
    validation: Any = None,
    metrics: Mapping[str, Callable] | None = None,
    validate_every: int | None = None,
    stop: EarlyStop | Callable[[dict[str, Any]], Any] | None = None,
    callbacks: Callable | Sequence[Callable] = (),
    directory: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
    keep: int = 2,
    history_every: int | None = None,
    norm_every: int = 100,
    stop_at_nonfinite: bool = True,
    engine: str = "diffprog",
    progress: str | bool | None = None,
) -> Fit:
    """Minimize a loss over data.

    Full batch, mini-batch and single example differ in `batch_size` alone. Steps run in compiled blocks; a second fit
    of an equal loss on equal shapes compiles nothing. What a step does depends on `key` and the step's number, never
    on the blocks, so a fit that was killed and is called again with the same `directory` ends with the same bits.

    Args:
      loss: `loss(parameters, batch)`, a scalar, the mean over the batch's examples. If its signature has `key`, it is
        given one for each step, and in measurements only if `key` has no default. If it has `state`, it is given the
        model's state, and returns (value, new state).
      parameters: any pytree; what is no array of floats or complex numbers is kept. A module of Equinox, Flax's NNX or
        variables of Linen go in as they are.
      data: pytree of arrays with one leading axis, of examples; or batches: a list of pytrees, a loader, an iterator.
      optimizer: an Optax gradient transformation, schedules and `optax.lbfgs()` included.
      steps: number of steps in all; either this or `epochs`.
      epochs: number of passes over the data.
      batch_size: examples per step; all of them by default.
      last_batch: what becomes of the examples that are left when the batches do not divide an epoch: "short" makes a
        shorter batch of them, so every epoch sees every example once; "drop" leaves them out, others in each epoch;
        "carry" fills the batch up from the next epoch.
      key: random key or seed of the examples' order and of the loss's keys.
      state: the model's state that is no parameter, as running means of batch normalization.
      train: which leaves to train: a glob for their paths ("decoder/*"), several, or a test (path, leaf).
      accumulate: number of pieces that each batch is cut into to save memory; gradients are averaged over them.
      clip_norm: norm that gradients are scaled down to.
      average: decay of an exponential mean of the parameters, as 0.999, which the result has as `averaged`.
      precision: "bfloat16" or "float16": the loss computes in it, from rounded parameters and batches; parameters,
        gradients and the optimizer stay as they are. With "float16" the loss is scaled on the way back, so that small
        cotangents do not vanish.
      validation: data that are not trained on, of the form of `data`; loss and metrics are measured on them.
      metrics: by name, functions of parameters and a batch, as `loss`, that are measured on `validation`. One called
        "loss" is measured in place of the loss.
      validate_every: steps between measurements; by default an epoch's, or several epochs' that make ten steps, or 100
        where the length of an epoch is not known.
      stop: `early_stop(...)`; or a function of the history's row that is called with each measurement, or at the end of
        each such stretch of steps if nothing is measured, and ends the fit by a true answer.
      callbacks: functions of the row and the parameters, called when `stop` is; a true answer ends the fit.
      directory: where checkpoints and the history (`history.jsonl`) go. A fit that finds its own there goes on; one of
        another loss, other data or other settings is refused. More `steps` or `epochs` than before go on, too.
      checkpoint_seconds: time between checkpoints.
      keep: number of checkpoints that are kept.
      history_every: steps between two rows of the history; by default 1, or as many as leave 100 000 rows.
      norm_every: steps between two rows with the gradient's norm, the first step's among them. To take it in each step
        of a tiny network would double the time.
      stop_at_nonfinite: whether a loss or a gradient that is NaN or infinite ends the fit, with the last good
        parameters and a warning.
      engine: whose gradients, "diffprog" or "jax".
      progress: caption of a progress bar, or True; none by default.

    Returns:
      The fitted parameters, the history and the reason why the fit ended. Ctrl-C ends it, too, and loses nothing.

    Raises:
      ValueError: an argument is out of range, or `directory` holds something else; the message says what to do.
      TypeError: `loss` or `optimizer` is something else.
    """
    if (steps is None) == (epochs is None):
        raise ValueError(f"give either steps or epochs; found steps={steps}, epochs={epochs}")
    for name, value in (("steps", steps), ("epochs", epochs)):
        if value is not None:
            check_count(value, name, 0)
    counts = {"accumulate": accumulate, "keep": keep, "validate_every": validate_every, "history_every": history_every}
    for name, value in counts.items():
        if value is not None:
            check_count(value, name)
    key, given = random_key(key), parameters
    loss, parameters, state, rebuild = as_pytree(loss, parameters, state)
    reading = read_loss(loss if precision is None else in_precision(loss, precision), "loss", state)
    batches = _batches(data, batch_size, last_batch, key, steps, epochs)
    optimizer = _optimizer(optimizer, clip_norm, average)
    differentiate = scaled_value_and_grad(engine) if precision == "float16" else value_and_grad(engine)
    descent = Descent(
        objective_of(reading),
        optimizer,
        track=None if state is None else lambda tracked, parameters, value, aux: aux,
        has_aux=state is not None,
        engine=engine,
        train=train,
        allow_nonfinite=not stop_at_nonfinite,
        differentiate=differentiate_over(batches, differentiate, accumulate),
        keep_aux=False,
        norm_every=check_count(norm_every, "norm_every"),
    )
    total: int | None = steps if epochs is None else batches.num_steps(epochs)
    per_epoch = batches.steps_per_epoch
    if not validate_every:
        validate_every = 100 if per_epoch is None else int(per_epoch * max(1, -(-10 // per_epoch)))
    if validation is None and metrics:
        raise ValueError("metrics are measured on validation, which was not given: give validation=data")
    if isinstance(stop, EarlyStop) and validation is None:
        raise ValueError(f"early_stop watches {stop.name}, which is measured on validation: give validation=data")
    history_every = history_every or max(1, -(-(total or 1) // MAX_ROWS))
    run = Run(
        descent,
        batches,
        descent.init(parameters, key=key, tracked=state),
        MOST if total is None else min(total, MOST),
        None if validation is None else _measure(reading, metrics, validation, batch_size, state),
        validate_every,
        stop,
        [callbacks] if callable(callbacks) else list(callbacks),
        history_every,
        average,
        key,
    )
    if directory is not None:
        made_of = {
            "loss": loss,
            "parameters": given,
            "optimizer": optimizer,
            "state": state,
            "train": train,
            "metrics": metrics,
            "validation": None if is_stream(validation) else validation,
            "stop": stop,
        }
        settings = {
            "batch_size": batches.sizes[0],
            "last_batch": last_batch,
            "key": key,
            "accumulate": accumulate,
            "precision": precision,
            "validate_every": validate_every,
            "engine": engine,
            "history_every": history_every,
            "norm_every": norm_every,
        }
        seconds = check_positive(checkpoint_seconds, "checkpoint_seconds")
        run.resume(Directory(directory, batches, made_of, settings, seconds, keep))
    caption = "fitting" if progress is True else progress or None
    with closing(run.rows), tqdm(total=total, initial=run.at.step, desc=caption, disable=caption is None) as bar:
        return run.go(bar, rebuild)


def _batches(data, batch_size, last_batch, key, steps, epochs):
    if is_stream(data):
        if batch_size is not None:
            raise ValueError(f"batch_size is for arrays, and batches come as they are; found batch_size={batch_size}")
        return StreamBatches(data, epochs)
    batches = ArrayBatches(data, batch_size, last_batch, key, steps)
    return batches if epochs is None else ArrayBatches(data, batch_size, last_batch, key, batches.num_steps(epochs))


def _optimizer(optimizer, clip_norm, average):
    links = [optimizer]
    if clip_norm is not None:
        links.insert(0, optax.clip_by_global_norm(check_positive(clip_norm, "clip_norm")))
    if average is not None:
        if not 0 <= average < 1:
            raise ValueError(f"average must be a decay in [0, 1), as 0.999; found {average!r}")
        links.append(average_weights(average))
    return optax.chain(*links) if len(links) > 1 else optimizer


def _measure(reading: Loss, metrics, validation, batch_size, state) -> Measure:
    named = {name: read_loss(metric, f"metrics[{name!r}]", state, True) for name, metric in (metrics or {}).items()}
    return Measure({"loss": reading} | named, validation, batch_size)
