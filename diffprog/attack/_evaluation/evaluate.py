"""Evaluate the robustness of a model on a data set: every attack on every batch, kept as it goes."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike
from tqdm import tqdm

from diffprog._util.fingerprint import fingerprint
from diffprog._util.resumable import describe, versions
from diffprog.attack._engine import validation
from diffprog.attack._engine.loop import BatchedModel, placement
from diffprog.attack._engine.oracle import ExpectationOverTransformation, Oracle
from diffprog.attack._evaluation.checks import ask_model, check_model, check_results
from diffprog.attack._evaluation.data import Batch, batches
from diffprog.attack._evaluation.results import (
    WORST_CASE_FIELDS,
    AttackRecord,
    Evaluation,
    RobustnessWarning,
    gather_worst_cases,
    join_records,
    record_attack,
    worst_cases_of,
)
from diffprog.attack._evaluation.store import Store, entry_name
from diffprog.attack._evaluation.timing import timed
from diffprog.attack._norms import NORMS, Norm, linf

RESERVED = ("epsilon", "key", "batch_size", "image_ids", "bounds", "devices", "engine", "targeted", "criterion")


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
    bounds: tuple[float, float] = (0.0, 1.0),
    devices: Sequence[jax.Device] | None = None,
    engine: str = "diffprog",
    keep_images: bool = False,
    max_worst_cases: int = 12,
    class_names: Sequence[str] | None = None,
    preprocess: Callable[[np.ndarray], Any] | None = None,
    progress: str | None = None,
) -> Evaluation:
    """Measure the accuracy of a model on a data set, clean and under attacks, at several budgets.

    With a directory, results are kept as they come. A run that was killed goes on with the same call: it has lost at
    most a batch of one attack, and its result is equal bit for bit. Under `jax.distributed` each process does its share
    of the batches and returns the whole result; all share one directory, and process 0 writes the report.

    Args:
        model: From images [n, ...] within `bounds` to logits [n, classes]; or an `ExpectationOverTransformation`.
        images: An array [n, ...] with `labels`. Or a folder, whose files FOLDER/CLASS/* are read as images; CLASS is
            one of `class_names`, or what `model.label_index` knows, or a class index. Or an iterable of batches
            (images, labels) of any sizes. No more than a batch is in memory.
        labels: Class indices, int [n]; None for a folder or an iterable.
        attacks: From a name to an attack of this package, a `functools.partial` of one, or a function like them. An
            attack that takes `epsilon` searches within each budget. One that does not searches for the smallest
            perturbation, which tells its success at every budget.
        epsilons: Budgets, increasing, in units of `norm`: a number or [K]. A success counts at each budget that its
            perturbation, as measured here, does not exceed.
        key: A random key. With an attack's name and an image's index in the data set, it decides every random draw.
        norm: Of the budgets.
        batch_size: Images to read and to attack at once. Results do not depend on it.
        directory: Where results are kept, and the report at the end; None keeps nothing.
        bounds: Smallest and largest value of a pixel.
        devices: Devices of this process, over which the rows of a batch are divided, rounded up to a multiple of their
            number; None for the default device.
        engine: "diffprog" for gradients by this package's tracer, "jax" for JAX's.
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
        ValueError: For arguments that cannot be used, for a model that returns probabilities, and for a directory that
            holds another evaluation: of other settings, versions, data or another model.

    References:
        Carlini et al. On Evaluating Adversarial Robustness. 2019, from which most warnings come.
    """
    validation.check_counts(batch_size=batch_size, max_worst_cases=max_worst_cases)
    norm, key = validation.check_norm(norm, tuple(NORMS.values())), validation.check_key(key)
    budgets, _ = validation.check_budgets(np.reshape(np.asarray(epsilons), (-1, 1)), 1)
    budgets = budgets[:, 0].copy()
    common = {"key": key, "batch_size": batch_size, "bounds": bounds, "engine": engine}
    common |= {"devices": devices} if devices else {}
    specs = _checked_attacks(attacks, norm, budgets, common)
    if jax.process_count() > 1 and directory is None:
        raise ValueError(
            "an evaluation by several processes needs a directory that they share; found none: give one with directory="
        )
    settings = {
        "attacks": {spec.name: spec.description for spec in specs},
        "norm": norm.name,
        "epsilons": budgets.tolist(),
        "bounds": describe(bounds),
        "key": describe(key),
        "batch_size": batch_size,
        "engine": engine,
        "max_worst_cases": max_worst_cases,
        "keep_images": bool(keep_images),
    }
    names = tuple(class_names if class_names is not None else getattr(model, "labels", ()))
    data = batches(model, images, labels, batch_size, names or None, preprocess)
    oracle = Oracle(_hashable(model), False, None, engine)
    logits_of = BatchedModel(oracle, placement(batch_size, devices), str(jax.random.key_impl(key)))
    run = _Run(specs, budgets, norm, key, settings, logits_of)
    with TemporaryDirectory() if directory is None else nullcontext(directory) as folder:
        evaluation = _evaluated(run, data, Path(folder), names, progress)
        if directory is not None and jax.process_index() == 0:
            evaluation.write(directory)
    return evaluation


# ---------------------------------------------------------------- the attacks


class AttackSpec(NamedTuple):
    """An attack with its name in the evaluation."""

    name: str
    attack: Callable[..., Any]
    within_budgets: bool  # it searches within budgets that it is given; otherwise for the smallest perturbation
    options: dict[str, Any]  # its arguments besides the model, images, labels and image ids
    description: dict[str, Any]  # the function and every argument, for JSON
    takes_image_ids: bool


def _checked_attacks(
    attacks: Mapping[str, Callable[..., Any]], norm: Norm, epsilons: np.ndarray, options: Mapping[str, Any]
) -> list[AttackSpec]:
    """Check the attacks. Each gets those of the `options` that it takes."""
    if not isinstance(attacks, Mapping) or not attacks:
        raise ValueError(
            f'attacks must be a dict from names to attacks; found {attacks!s:.60}: try {{"pgd": diffprog.attack.pgd}}'
        )
    return [_spec(name, attack, norm, epsilons, options) for name, attack in attacks.items()]


def _spec(
    name: str, attack: Callable[..., Any], norm: Norm, epsilons: np.ndarray, options: Mapping[str, Any]
) -> AttackSpec:
    """Check one attack, and describe it with all its arguments."""
    if not (isinstance(name, str) and re.fullmatch(r"[\w +-][\w .+-]*", name)) or name == "clean":
        raise ValueError(
            f"an attack's name must be of letters, digits, spaces and .+-_; found {name!r}: files are named after it"
        )
    parameters = inspect.signature(attack).parameters
    bound = getattr(attack, "keywords", {})
    for option in RESERVED:
        if option in bound:
            raise ValueError(
                f"attack {name!r} must leave {option} to the evaluation; found {bound[option]!s:.40}: "
                "leave it out of the partial"
            )
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    takes = lambda option: option in parameters or open_ended
    arguments = {option: value for option, value in options.items() if takes(option)}
    within_budgets = "epsilon" in parameters
    if within_budgets:
        arguments["epsilon"] = epsilons[:, None]
    if "norm" in parameters and "norm" not in bound:
        arguments["norm"] = norm
    elif within_budgets and bound.get("norm", norm) != norm:
        raise ValueError(
            f"attack {name!r} has budgets in {bound['norm'].name}, and the evaluation in {norm.name}: "
            "evaluate each norm by itself"
        )
    defaults = {option: p.default for option, p in parameters.items() if p.default is not p.empty}
    hidden = {*RESERVED, "progress"} - {"engine"}
    description = {
        "function": describe(getattr(attack, "func", attack)),
        "search": "within budgets" if within_budgets else "smallest perturbation",
        "arguments": {
            option: describe(value)
            for option, value in sorted({**defaults, **bound, **arguments}.items())
            if option not in hidden
        },
    }
    return AttackSpec(name, attack, within_budgets, arguments, description, takes("image_ids"))


def _hashable(model: Any) -> Any:
    """Make a model hashable: compiled programs are found again by its value from batch to batch."""
    try:
        hash(model)
    except TypeError:
        if isinstance(model, ExpectationOverTransformation):
            return model._replace(model=lambda images, key: model.model(images, key))
        return lambda images: model(images)
    return model


# ---------------------------------------------------------------- batch by batch


class _Run(NamedTuple):
    """What holds for all batches."""

    specs: list[AttackSpec]
    epsilons: np.ndarray
    norm: Norm
    key: jax.Array
    settings: dict[str, Any]  # as the manifest has them
    logits_of: BatchedModel


@dataclass(frozen=True)
class _LoadedBatch:
    """Images and labels that were checked."""

    index: int
    images: np.ndarray
    labels: np.ndarray
    image_ids: np.ndarray
    keys: jax.Array  # of the first query to a network that draws; no attack asks it

    def logits(self, logits_of: BatchedModel) -> np.ndarray:
        """Ask the model about the images as they are."""
        return logits_of(self.images, np.asarray(jax.random.key_data(self.keys)))


def _load(run: _Run, batch: Batch) -> _LoadedBatch:
    """Read a batch and check it."""
    images, labels = batch.load()
    images = validation.check_images(images, run.settings["bounds"])
    labels = validation.check_labels(labels, len(images))
    image_ids = batch.index * run.settings["batch_size"] + np.arange(len(images), dtype=np.uint32)
    return _LoadedBatch(batch.index, images, labels, image_ids, _folded(run.key, image_ids))


_folded = jax.jit(jax.vmap(jax.random.fold_in, (None, 0)))


def _evaluated(
    run: _Run, data: Iterable[Batch], folder: Path, class_names: tuple[str, ...], progress: str | None
) -> Evaluation:
    """Do this process's share of the batches, and gather the result of all."""
    store, num_batches, worst_sizes = None, 0, np.zeros(0)
    model_warnings: list[RobustnessWarning] = []
    with tqdm(desc=progress, disable=progress is None, unit="batch") as bar:
        for unread in data:
            num_batches += 1
            is_ours = unread.index % jax.process_count() == jax.process_index()
            if store is not None and not is_ours:
                continue
            batch = _load(run, unread)
            if store is None:
                store, model_warnings = _opened(run, folder, batch)
            if is_ours:
                worst_sizes = _attack_batch(run, store, batch, worst_sizes)
            bar.update()
    if store is None:
        raise ValueError("images must be at least one; found an empty iterable: was it read to its end before?")
    names = ["clean", *(spec.name for spec in run.specs)]
    store.wait(entry_name(index, name) for index in range(num_batches) for name in names)
    evaluation = _gathered(run, store, num_batches, class_names)
    return replace(evaluation, warnings=(*model_warnings, *check_results(evaluation)))


def _opened(run: _Run, folder: Path, batch: _LoadedBatch) -> tuple[Store, list[RobustnessWarning]]:
    """Open the store of this evaluation, and check the model's answers to the first batch."""
    validation.check_largest_budget(run.epsilons, run.norm, batch.images, run.settings["bounds"])
    validation.check_logits(batch.logits(run.logits_of), batch.labels)
    answers = ask_model(run.logits_of, batch.images, batch.labels, batch.keys, run.settings["bounds"])
    largest = [float(value) if np.isfinite(value) else None for value in answers.logits.max(axis=1)]
    first_batch = {"images": fingerprint(batch.images, batch.labels), "logits": largest}
    manifest = {"settings": run.settings, "versions": versions(), "first_batch": first_batch}
    return Store(folder, manifest), check_model(answers)


def _attack_batch(run: _Run, store: Store, batch: _LoadedBatch, worst_sizes: np.ndarray) -> np.ndarray:
    """Attack a batch with every attack, or read what is kept; return the sizes of the worst cases so far."""
    content = fingerprint(batch.images, batch.labels)
    entry = entry_name(batch.index, "clean")
    if not store.has(entry):
        logits = batch.logits(run.logits_of)
        predictions = np.where(np.isfinite(logits).all(axis=1), logits.argmax(axis=1), -1)
        clean = {"labels": batch.labels, "clean_predictions": predictions, "fingerprint": np.array(content)}
        store.save(entry, clean)
    clean = store.load(entry)
    if str(clean["fingerprint"]) != content:
        raise ValueError(
            f"{store.folder} holds an evaluation of other images or labels (batch {batch.index}): give "
            "another directory, or the same again"
        )
    max_worst_cases = run.settings["max_worst_cases"]
    limit = worst_sizes[-1] if len(worst_sizes) == max_worst_cases else np.inf
    sizes = np.full(len(batch.images), np.inf)
    for spec in run.specs:
        entry = entry_name(batch.index, spec.name)
        if not store.has(entry):
            store.save(entry, _attacked(run, spec, batch, clean["clean_predictions"] >= 0, limit))
        record = AttackRecord(**store.load(entry, AttackRecord._fields))
        sizes = np.minimum(sizes, record.minimum_norm)
    broken = sizes[(sizes > 0) & np.isfinite(sizes)]
    return np.sort([*worst_sizes, *broken])[:max_worst_cases]


def _attacked(
    run: _Run, spec: AttackSpec, batch: _LoadedBatch, valid: np.ndarray, limit: float
) -> dict[str, np.ndarray]:
    """Run one attack on the images of a batch with finite logits (`valid`): the arrays of its file.

    Worst cases are those below the size `limit`.
    """
    images, searches = batch.images, len(run.epsilons) if spec.within_budgets else 1
    result, times, returned = None, [0.0, 0.0], np.repeat(images[None], searches, axis=0)
    if valid.any():
        options = spec.options | ({"image_ids": batch.image_ids[valid]} if spec.takes_image_ids else {})
        attack = lambda: spec.attack(run.logits_of.oracle.model, images[valid], batch.labels[valid], **options)
        result, *times = timed(attack)
        returned[:, valid] = np.reshape(result.images, (searches, -1, *images.shape[1:]))
    size = np.stack([run.norm.measure(search.astype(np.float64) - images) for search in returned])
    budgets = run.epsilons if spec.within_budgets else np.array([np.inf])
    record = record_attack(result, valid, size[:, valid], budgets, *times)
    best = returned[record.best_search, np.arange(len(images))]
    cases = worst_cases_of(
        record, (batch.image_ids, batch.labels, images, best), limit, run.settings["max_worst_cases"]
    )
    return record._asdict() | cases | ({"images": best} if run.settings["keep_images"] else {})


def _gathered(run: _Run, store: Store, num_batches: int, class_names: tuple[str, ...]) -> Evaluation:
    """Read the files of all batches."""
    load = lambda name, fields: [store.load(entry_name(index, name), fields) for index in range(num_batches)]
    clean = load("clean", {"labels", "clean_predictions"})
    records = {spec.name: load(spec.name, AttackRecord._fields) for spec in run.specs}
    cases = [(spec.name, arrays) for spec in run.specs for arrays in load(spec.name, WORST_CASE_FIELDS)]
    return Evaluation(
        norm=run.norm.name,
        epsilons=run.epsilons,
        labels=np.concatenate([arrays["labels"] for arrays in clean]),
        clean_predictions=np.concatenate([arrays["clean_predictions"] for arrays in clean]),
        records={name: join_records(AttackRecord(**arrays) for arrays in parts) for name, parts in records.items()},
        worst_cases=gather_worst_cases(cases, run.settings["max_worst_cases"]),
        warnings=(),
        settings=run.settings,
        versions=versions(),
        bounds=tuple(run.settings["bounds"]),
        class_names=class_names,
    )
