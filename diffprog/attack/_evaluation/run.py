"""The run of an evaluation: batch after batch, every attack on it, and what is kept of that."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from diffprog._util.content_digest import ContentDigest
from diffprog._util.file_names import file_name
from diffprog._util.kept_results import NO_BUDGETS, Results, alike
from diffprog._util.resumable import ResumableFolder, versions
from diffprog._util.timing import timed
from diffprog.attack._engine import answers, validation
from diffprog.attack._engine.loop import BatchedModel
from diffprog.attack._evaluation.attacks import AttackSpec
from diffprog.attack._evaluation.checks import ask_model, check_model, check_results
from diffprog.attack._evaluation.clean import CLEAN_NAMES, predict_clean
from diffprog.attack._evaluation.results import (
    WORST_CASE_FIELDS,
    AttackRecord,
    Evaluation,
    RobustnessWarning,
    best_search,
    gather_worst_cases,
    worst_cases_of,
)
from diffprog.attack._evaluation.store import FORMAT, attack_difference, difference
from diffprog.attack._evaluation.verdicts import (
    Attacked,
    Judge,
    judged,
    merge_budgets,
    reported_fields,
    returned_images,
)
from diffprog.attack._norms import Norm, linf
from diffprog.images._labeled import Batch

RECORD_NAMES = tuple(
    name for name in AttackRecord._fields if name not in ("initially_wrong", "seconds", "compile_seconds")
)
JUDGING = 1  # purpose of the questions about what an attack returned


class Run(NamedTuple):
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


def _load(run: Run, batch: Batch) -> _LoadedBatch:
    """Read a batch and check it."""
    images, labels = batch.load()
    images = validation.check_images(images, run.bounds)
    labels = validation.check_labels(labels, len(images), are_free=bool(run.criterion))
    return _LoadedBatch(images, labels, batch.image_ids)


def evaluated(
    run: Run, data: Iterable[Batch], folder: Path, class_names: tuple[str, ...], progress: str | None
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


def _opened(run: Run, folder: Path) -> _Stores:
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
        place = f"attacks/{file_name(spec.name)}"
        attacks[spec.name] = Results(root, place, description, RECORD_NAMES, attack_difference, **needs)
    return _Stores(folder, Results(root, "clean", {}, CLEAN_NAMES), attacks, bool(run.model.unknown))


def _asked(run: Run, batch: _LoadedBatch) -> list[RobustnessWarning]:
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


def _attack_batch(run: Run, stores: _Stores, batch: _LoadedBatch, limits: dict[Any, list[float]]) -> None:
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
    run: Run,
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


def _gathered(run: Run, stores: _Stores, image_ids: np.ndarray, class_names: tuple[str, ...]) -> Evaluation:
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
