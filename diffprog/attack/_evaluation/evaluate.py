"""Evaluate the robustness of a model on a data set: every attack on every batch, kept as it goes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike
from tqdm import tqdm

from diffprog._util.content_digest import ContentDigest, content_digest
from diffprog._util.file_names import file_name
from diffprog._util.files import check_writable
from diffprog._util.resumable import ResumableFolder, by_content, describe, versions
from diffprog._util.warning import warn
from diffprog.attack._engine import answers, validation
from diffprog.attack._engine.loop import BatchedModel, placement
from diffprog.attack._engine.oracle import ExpectationOverTransformation, Oracle
from diffprog.attack._engine.spelling import answers_names
from diffprog.attack._evaluation.attacks import AttackSpec, check_attacks
from diffprog.attack._evaluation.checks import ask_model, check_model, check_results
from diffprog.attack._evaluation.clean import CLEAN_NAMES, predict_clean
from diffprog.attack._evaluation.data import Batch, batches
from diffprog.attack._evaluation.results import (
    WORST_CASE_FIELDS,
    AttackRecord,
    Evaluation,
    RobustnessWarning,
    best_search,
    gather_worst_cases,
    worst_cases_of,
)
from diffprog.attack._evaluation.store import FORMAT, NO_BUDGETS, Results, alike, difference
from diffprog.attack._evaluation.timing import timed
from diffprog.attack._evaluation.verdicts import (
    Attacked,
    Judge,
    judged,
    merge_budgets,
    reported_fields,
    returned_images,
)
from diffprog.attack._norms import NORMS, Norm, linf

RECORD_NAMES = tuple(
    name for name in AttackRecord._fields if name not in ("initially_wrong", "seconds", "compile_seconds")
)
JUDGING = 1  # purpose of the questions about what an attack returned


@answers_names
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
    run = _Run(specs, budgets, norm, limits, key, settings, digest, judged_by, logits_of)
    with TemporaryDirectory() if directory is None else nullcontext(directory) as folder:
        evaluation = _evaluated(run, data, Path(folder), names, progress)
        if directory is not None and jax.process_index() == 0:
            evaluation.write(directory)
    return evaluation


def _without_infinity(bound: Any) -> Any:
    """Write a bound, or one of each channel, as JSON has it, which knows no infinity: None."""
    values = np.asarray(bound, object)
    values[~np.isfinite(np.asarray(bound, float))] = None
    return values.tolist()


# ---------------------------------------------------------------- batch by batch


class _Run(NamedTuple):
    """What holds for all batches."""

    specs: list[AttackSpec]
    epsilons: np.ndarray
    norm: Norm
    bounds: tuple[Any, Any]  # numbers or arrays
    key: jax.Array
    settings: dict[str, Any]  # as the report has them
    model: ContentDigest
    criterion: str  # digest of a criterion of the user's; "" without one
    logits_of: BatchedModel

    def ask(self, images: np.ndarray, image_ids: np.ndarray, purpose: int) -> np.ndarray:
        """Ask the model; of a random one, each image's draws depend on its id and the purpose."""
        keys = _folded(jax.random.fold_in(self.key, purpose), image_ids) if purpose else _folded(self.key, image_ids)
        return self.logits_of(images, np.asarray(jax.random.key_data(keys)))


_folded = jax.jit(jax.vmap(jax.random.fold_in, (None, 0)))


class _Stores(NamedTuple):
    """What is kept."""

    folder: Path
    clean: Results
    attacks: dict[str, Results]
    asks_always: bool  # whether the model is known by its logits alone, so that all of them are compared


@dataclass(frozen=True)
class _LoadedBatch:
    """Images and labels that were checked."""

    images: np.ndarray
    labels: np.ndarray
    image_ids: np.ndarray


def _load(run: _Run, batch: Batch) -> _LoadedBatch:
    """Read a batch and check it."""
    images, labels = batch.load()
    images = validation.check_images(images, run.bounds)
    labels = validation.check_labels(labels, len(images), are_free=bool(run.criterion))
    return _LoadedBatch(images, labels, batch.image_ids)


def _evaluated(
    run: _Run, data: Iterable[Batch], folder: Path, class_names: tuple[str, ...], progress: str | None
) -> Evaluation:
    """Do this process's share of the batches, and gather the result of all."""
    stores: _Stores | None = None
    model_warnings: list[RobustnessWarning] = []
    image_ids: list[int] = []
    limits: dict[tuple[str, float], list[float]] = {}
    with tqdm(desc=progress, disable=progress is None, unit="batch") as bar:
        for unread in data:
            image_ids.extend(unread.image_ids)
            is_ours = unread.index % jax.process_count() == jax.process_index()
            if stores is not None and not is_ours:
                continue
            batch = _load(run, unread)
            if stores is None:
                stores = _opened(run, folder)
                model_warnings = _asked(run, batch)
            if is_ours:
                _attack_batch(run, stores, batch, limits)
            bar.update()
    if stores is None:
        raise ValueError("images must be at least one; found none: was an iterable read to its end before?")
    evaluation = _gathered(run, stores, np.array(image_ids), class_names)
    return replace(evaluation, warnings=(*model_warnings, *check_results(evaluation)))


def _opened(run: _Run, folder: Path) -> _Stores:
    """Open what is kept, and refuse what was made by another model, with other settings or by other attacks."""
    common = {
        "format": FORMAT,
        "model": run.model.text,
        "criterion": run.criterion,
        "settings": {name: run.settings[name] for name in ("norm", "bounds", "key", "generator", "engine")},
        "versions": versions(),
    }
    root = ResumableFolder(folder, common, holds="an evaluation", suffix=".npz", difference=difference, keyed=True)
    needs = {name: int(run.settings[name]) for name in ("keep_images", "max_worst_cases")}
    attacks = {}
    for spec in run.specs:
        description = {"attacks": {spec.name: spec.description}, "content": {spec.name: spec.content}}
        attacks[spec.name] = Results(root, f"attacks/{file_name(spec.name)}", description, RECORD_NAMES, **needs)
    return _Stores(folder, Results(root, "clean", {}, CLEAN_NAMES), attacks, bool(run.model.unknown))


def _asked(run: _Run, batch: _LoadedBatch) -> list[RobustnessWarning]:
    """Check the model's answers to the first batch."""
    validation.check_largest_budget(run.epsilons, run.norm, batch.images, run.bounds)
    logits = run.ask(batch.images, batch.image_ids, 0)
    answers.check_logits(logits, batch.labels, are_free=bool(run.criterion))
    keys = _folded(run.key, batch.image_ids)
    extent = float(np.min(np.subtract(*run.bounds[::-1])))
    distance = min(float(run.epsilons.max()), extent) if run.norm is linf else extent / 32
    distance = distance if np.isfinite(distance) else float(batch.images.std())
    found = ask_model(run.logits_of, batch.images, batch.labels, keys, run.bounds, distance)
    return check_model(found, of_classes=not run.criterion)


def _attack_batch(run: _Run, stores: _Stores, batch: _LoadedBatch, limits: dict[Any, list[float]]) -> None:
    """Attack the images of a batch with every attack at every budget, as far as that is not kept already.

    Of each attack and budget, `limits` has the sizes of the worst cases so far.
    """
    content = (batch.images, batch.labels, batch.image_ids)
    ask = lambda images, image_ids: run.ask(images, image_ids, 0)
    compared = stores.asks_always or batch.image_ids[0] == 0
    clean = predict_clean(stores.clean, stores.folder, ask, run.logits_of.oracle.judge, *content, compared)
    for spec in run.specs:
        store, searches = stores.attacks[spec.name], spec.searches(run.epsilons)
        missing = store.missing(searches, batch.image_ids)
        limit = np.array([_limit(limits.get((spec.name, search), []), run.settings) for search in searches])
        for which, lacking in alike(missing):
            images = [array[lacking] for array in (*content, clean["predictions"], clean["is_wrong"])]
            arrays = _attacked(run, spec, searches[which], limit[which], *images)
            store.save(searches[which], batch.image_ids[lacking], arrays)
        rows = store.gather(searches, batch.image_ids)
        for search, success, size in zip(searches, rows["success"], rows["size"], strict=True):
            sizes = [*limits.get((spec.name, search), []), *size[success & (size > 0)]]
            limits[spec.name, search] = sorted(sizes)[: run.settings["max_worst_cases"]]


def _limit(smallest: list[float], settings: dict[str, Any]) -> float:
    """Say below which size a perturbation is a worst case."""
    return smallest[-1] if len(smallest) == settings["max_worst_cases"] else np.inf


def _attacked(
    run: _Run,
    spec: AttackSpec,
    budgets: np.ndarray,
    limits: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    image_ids: np.ndarray,
    clean_predictions: np.ndarray,
    is_wrong: np.ndarray,
) -> dict[str, np.ndarray]:
    """Run one attack on images, those of them with finite logits, and judge what it returns: the arrays of its file."""
    returned = np.repeat(images[None], len(budgets), axis=0)
    reported = reported_fields(None, returned.shape[:2])
    times = [0.0, 0.0]
    valid, searched = clean_predictions >= 0, budgets > 0  # within a budget of 0 are the images themselves
    if valid.any() and searched.any():
        options = spec.options | ({"image_ids": image_ids[valid]} if spec.takes_image_ids else {})
        call = partial(spec.call, run.logits_of.oracle.model, images[valid], labels[valid], budgets[searched], options)
        try:
            results, *times = timed(call)
        except Exception as error:
            error.add_note(f"This came from attack {spec.name!r} on images {image_ids[0]} to {image_ids[-1]}.")
            raise
        num_searches, rows = int(searched.sum()) // len(results), np.ix_(searched, valid)
        parts = [returned_images(spec.name, result, images[valid], num_searches) for result in results]
        returned[rows] = np.concatenate(parts)
        fields = [reported_fields(result, (num_searches, int(valid.sum()))) for result in results]
        for name, values in reported.items():
            values[rows] = np.concatenate([field[name] for field in fields])
    attacked = Attacked(images, labels, image_ids, clean_predictions, is_wrong, returned, budgets, reported)
    ask = lambda points, ids: run.ask(points, ids, JUDGING)
    judge = Judge(ask, run.logits_of.oracle.judge, run.norm, run.bounds)
    arrays = judged(attacked, judge)
    cases = worst_cases_of(arrays, image_ids, labels, images, returned, limits, run.settings["max_worst_cases"])
    best = returned[best_search(arrays["success"], arrays["size"]), np.arange(len(images))]
    kept_images = {"images": best} if run.settings["keep_images"] else {}
    return arrays | cases | kept_images | {"times": np.array(times)}


def _gathered(run: _Run, stores: _Stores, image_ids: np.ndarray, class_names: tuple[str, ...]) -> Evaluation:
    """Join what is kept of all images, and what other processes are about to keep."""
    stores.clean.wait(NO_BUDGETS, image_ids)
    clean = {name: values[0] for name, values in stores.clean.gather(NO_BUDGETS, image_ids).items()}
    records: dict[str, AttackRecord] = {}
    cases: list[tuple[str, dict[str, np.ndarray], np.ndarray]] = []
    for spec in run.specs:
        store, searches = stores.attacks[spec.name], spec.searches(run.epsilons)
        store.wait(searches, image_ids)
        arrays = store.gather(searches, image_ids)
        seconds, compile_seconds = arrays.pop("times").T
        arrays = merge_budgets(arrays) | {"seconds": seconds, "compile_seconds": compile_seconds}
        records[spec.name] = AttackRecord(**arrays, initially_wrong=clean["is_wrong"])
        cases += [(spec.name, *file) for file in store.extras(WORST_CASE_FIELDS, searches, image_ids)]
    return Evaluation(
        norm=run.norm.name,
        epsilons=run.epsilons,
        labels=clean["labels"],
        clean_predictions=clean["predictions"],
        records=records,
        worst_cases=gather_worst_cases(cases, run.settings["max_worst_cases"]),
        warnings=(),
        settings=run.settings,
        versions=versions(),
        bounds=(float(np.min(run.bounds[0])), float(np.max(run.bounds[1]))),
        class_names=class_names,
    )
