"""Evaluate the robustness of a model on a data set: every attack on every batch, kept as it goes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from diffprog._util.content_digest import content_digest
from diffprog._util.files import check_writable
from diffprog._util.resumable import by_content, describe
from diffprog._util.spelling import answers_names
from diffprog._util.warning import warn
from diffprog.attack._engine import validation
from diffprog.attack._engine.loop import BatchedModel, placement
from diffprog.attack._engine.oracle import ExpectationOverTransformation, Oracle
from diffprog.attack._engine.spelling import MEANT
from diffprog.attack._evaluation.attacks import check_attacks
from diffprog.attack._evaluation.results import (
    Evaluation,
)
from diffprog.attack._evaluation.run import Run, evaluated
from diffprog.attack._norms import NORMS, Norm, linf
from diffprog.images._labeled import batches


@answers_names(MEANT)
def evaluate(
    model: Callable[..., jax.Array] | ExpectationOverTransformation,
    images: ArrayLike | str | Path | Iterable[tuple[ArrayLike, ArrayLike]],
    labels: ArrayLike | None = None,
    *,
    attacks: Mapping[str, Callable[..., Any]],
    epsilons: ArrayLike,
    key: jax.Array,
    norm: Norm = linf,
    batch_size: int = 128,
    directory: str | Path | None = None,
    bounds: tuple[ArrayLike, ArrayLike] | None = (0.0, 1.0),
    devices: Sequence[jax.Device] | None = None,
    engine: str = "diffprog",
    criterion: Callable[..., Any] | None = None,
    keep_images: bool = False,
    max_worst_cases: int = 12,
    class_names: Sequence[str] | None = None,
    preprocess: Callable[[np.ndarray], Any] | None = None,
    progress: str | None = None,
) -> Evaluation:
    """Measure the accuracy of a model on a data set, clean and under attacks, at several budgets.

    Success is judged here, on the arrays that an attack returns: by this model, the bounds and the budgets. So an
    attack may be anything that returns images, one that asks another network included.

    With a directory, results are kept as they come. A run that was killed goes on with the same call: it has lost at
    most a batch of one attack, and its result is equal bit for bit. A call with more attacks, budgets or images, with
    fewer, or with another `batch_size` computes only what is not there; an attack that learns one perturbation for many
    images learns it for those of a batch that are not there. What another model, other code of an attack or
    loss, other images, labels, settings or versions have made is refused, in a sentence that names the change. A
    damaged file is set aside, with a warning, and computed again. Under `jax.distributed` each process does its share
    of the batches and returns the whole result; all share one directory, and process 0 writes the report.

    Args:
        model: From images [n, ...] within `bounds` to logits [n, classes]; or an `ExpectationOverTransformation`.
        images: An array [n, ...] with `labels`. Or a folder, whose files FOLDER/CLASS/* are read as images, less hidden
            ones and, with a warning that counts them, those of no known kind; CLASS is one of `class_names`, or what
            `model.label_index` knows, or a class index. Or an iterable of batches (images, labels) of any sizes. No
            more than a batch is in memory.
        labels: Class indices, int [n], or with a `criterion` what that reads, [n, ...]; None for a folder or an
            iterable.
        attacks: From a name to an attack of this package, a `functools.partial` of one, or a function like them, which
            returns an `AttackResult` or the images alone. An attack that takes `epsilon` searches within each of the
            budgets [K, 1] that it is given, and returns images [K, n, ...]; one of this package is told to do so for
            images that a smaller budget breaks, too, which `functools.partial(attack, every_budget=False)` saves. One
            that does not take it searches for the smallest perturbation, which tells its success at every budget.
        epsilons: Budgets, increasing, in units of `norm`: a number or [K]. A success counts at each budget that its
            perturbation, as measured here, does not exceed, the rounding of float32 aside.
        key: A random key. With an attack's name and an image's index in the data set, it decides every random draw.
        norm: Of the budgets.
        batch_size: Images to read and to attack at once. Results do not depend on it.
        directory: Where results are kept, and the report at the end; None keeps nothing.
        bounds: Smallest and largest value of a pixel, or arrays with one for each channel or column; None for none.
        devices: Devices of this process, over which the rows of a batch are divided, rounded up to a multiple of their
            number; None for the default device.
        engine: "diffprog" for gradients by this package's tracer, "jax" for JAX's.
        criterion: `(logits [n, classes], labels [n]) -> bool [n]`, what counts as broken in place of another class than
            the label: of the images as they are, and of what attacks return. Attacks that take a criterion get it.
        keep_images: Whether to keep, in each attack's files as "images", each image's smallest success, or else what
            it was last turned into.
        max_worst_cases: Number of images, broken by the smallest perturbations, to keep for the report.
        class_names: Names of the classes, for the report and for folders; `model.labels` if None.
        preprocess: Applied to a file's image (height, width, 3) in [0, 1]. If None, a model with a `size` gets central
            squares of that size.
        progress: Caption of a progress bar; None for no bar.

    Returns:
        Accuracies, what each attack did to each image, the worst cases, and warnings.

    Raises:
        ValueError: For arguments that cannot be used, for a model that returns probabilities, for an attack that
            returns no such images, and for a directory that cannot be written or holds another evaluation: of other
            settings, versions, data, another model or other attacks of the same names.

    References:
        Carlini et al. On Evaluating Adversarial Robustness. 2019, from which most warnings come.
    """
    validation.check_counts(batch_size=batch_size, max_worst_cases=max_worst_cases)
    norm, key = validation.check_norm(norm, tuple(NORMS.values())), validation.check_key(key)
    if np.size(epsilons) == 0:
        raise ValueError("epsilons must be one budget or more, increasing; found none: try [8 / 255]")
    budgets, _ = validation.check_budgets(np.reshape(np.asarray(epsilons), (-1, 1)), 1)
    budgets = budgets[:, 0].copy()
    limits, devices, progress = (
        validation.check_bounds(bounds),
        validation.check_devices(devices),
        validation.check_caption(progress),
    )
    common = {"key": key, "batch_size": batch_size, "bounds": bounds, "engine": engine}
    common |= ({"devices": devices} if devices else {}) | ({"criterion": criterion} if criterion else {})
    specs = check_attacks(attacks, norm, common)
    if directory is not None:
        check_writable(directory, "directory")
    elif jax.process_count() > 1:
        raise ValueError(
            "an evaluation by several processes needs a directory that they share; found none: give one with directory="
        )
    settings = {
        "attacks": {spec.name: spec.description for spec in specs},
        "norm": norm.name,
        "epsilons": budgets.tolist(),
        "bounds": [_without_infinity(bound) for bound in limits],
        "key": describe(key),
        "generator": str(jax.random.key_impl(key)),
        "batch_size": batch_size,
        "engine": engine,
        "criterion": describe(criterion),
        "max_worst_cases": max_worst_cases,
        "keep_images": bool(keep_images),
    }
    names = tuple(class_names if class_names is not None else getattr(model, "labels", ()))
    data = batches(model, images, labels, batch_size, names or None, preprocess)
    oracle = Oracle(model, False, criterion, engine)
    logits_of = BatchedModel(oracle, placement(batch_size, devices), settings["generator"])
    digest = content_digest(model, "model")
    if directory is not None and digest.unknown:
        warn(
            f"{digest.unknown[0]}, which cannot be compared from run to run: a run that goes on in this directory "
            "knows the model by its logits alone"
        )
    judged_by = by_content(criterion, "criterion") if criterion else ""
    run = Run(specs, budgets, norm, limits, key, settings, digest, judged_by, logits_of)
    with TemporaryDirectory() if directory is None else nullcontext(directory) as folder:
        evaluation = evaluated(run, data, Path(folder), names, progress)
        if directory is not None and jax.process_index() == 0:
            evaluation.write(directory)
    return evaluation


def _without_infinity(bound: Any) -> Any:
    """Write a bound, or one of each channel, as JSON has it, which knows no infinity: None."""
    values = np.asarray(bound, object)
    values[~np.isfinite(np.asarray(bound, float))] = None
    return values.tolist()
