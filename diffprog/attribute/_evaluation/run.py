"""The run of an evaluation: batch after batch, every method on it, every measure of that, and what is kept."""

from collections.abc import Iterable, Sized
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from diffprog._util.content_digest import ContentDigest
from diffprog._util.file_names import file_name
from diffprog._util.fingerprint import fingerprint
from diffprog._util.kept_results import NO_BUDGETS, Results
from diffprog._util.resumable import ResumableFolder, versions
from diffprog._util.timing import timed
from diffprog.attribute._core.question import check_inputs
from diffprog.attribute._draw.maps import maps_of
from diffprog.attribute._evaluation.results import AttributionEvaluation, MethodRecord
from diffprog.attribute._evaluation.specs import Spec, measure_specs
from diffprog.attribute._evaluation.store import CLEAN, FORMAT, MEASURE, METHOD, difference, spec_difference
from diffprog.attribute.measures import MEASURES, Measured
from diffprog.images._labeled import Batch

NO_MAPS = np.zeros((0, 0, 0), np.float32)


class Run(NamedTuple):
    """What holds for all batches."""

    model: Any
    digest: ContentDigest
    methods: list[Spec]
    measures: Any  # as they were asked for
    key: jax.Array
    baseline: Any
    masks: np.ndarray | None
    cells: np.ndarray | None
    side: int
    max_maps: int
    settings: dict[str, Any]


class _Stores(NamedTuple):
    """What is kept, and the measures, whose defaults depend on the first batch."""

    folder: Path
    measures: list[Spec]
    clean: Results
    methods: dict[str, Results]
    maps: dict[str, Results]
    measured: dict[tuple[str, str], Results]


@dataclass(frozen=True)
class _Loaded:
    """Images that were checked, with what is known of them."""

    ids: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None
    cells: np.ndarray | None

    def rows(self, where: np.ndarray) -> "_Loaded":
        """Take some of the images."""
        take = lambda leaf: None if leaf is None else leaf[where]
        return _Loaded(self.ids[where], self.images[where], self.labels[where], take(self.masks), take(self.cells))


def evaluated(
    run: Run, data: Iterable[Batch], folder: Path, class_names: tuple[str, ...], progress: str | None
) -> AttributionEvaluation:
    """Do all batches, and gather the result."""
    stores: _Stores | None = None
    ids: list[int] = []
    shown: list[np.ndarray] = []
    batches = len(data) if isinstance(data, Sized) else None
    with tqdm(desc=progress, disable=progress is None, unit="step") as bar:
        for unread in data:
            batch = _load(run, unread)
            if stores is None:
                stores = _opened(run, folder, batch)
                if batches is not None:
                    bar.reset(total=batches * len(run.methods) * (1 + len(stores.measures)))
            ids.extend(unread.image_ids)
            shown.extend(batch.images[: max(run.max_maps - len(shown), 0)])
            _clean(run, stores, batch)
            for method in run.methods:
                _measure_batch(run, stores, method, batch, bar)
    if stores is None:
        raise ValueError("images must be at least one; found none: was an iterable read to its end before?")
    _check_used(run, len(ids))
    return _gathered(run, stores, np.array(ids), np.stack(shown) if shown else np.zeros((0,)), class_names)


def _load(run: Run, batch: Batch) -> _Loaded:
    """Read a batch and check it."""
    images, labels = batch.load()
    images, count = check_inputs(run.model, np.asarray(images, np.float32), "images")
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise ValueError(
            f"labels must be one class index for each image, ({count},); found {labels.dtype} {labels.shape}"
        )
    take = lambda rows: None if rows is None else rows[batch.image_ids]
    for name, rows in (("masks", run.masks), ("cells", run.cells)):
        if rows is not None and len(rows) <= batch.image_ids.max():
            raise ValueError(f"{name} must be one for each image; found {len(rows)} for more images")
    return _Loaded(batch.image_ids, np.asarray(images), labels.astype(np.int64), take(run.masks), take(run.cells))


def _check_used(run: Run, count: int) -> None:
    for name, rows in (("masks", run.masks), ("cells", run.cells)):
        if rows is not None and len(rows) != count:
            raise ValueError(f"{name} must be one for each of {count} images; found {len(rows)}")


def _opened(run: Run, folder: Path, batch: _Loaded) -> _Stores:
    """Open what is kept, and refuse what was made by another model, with other settings or by other methods."""
    has = (run.masks is not None, run.cells is not None)
    specs = measure_specs(run.measures, run.key, run.baseline, batch.images.ndim, *has)
    run.settings["methods"] = {spec.name: spec.description for spec in run.methods}
    run.settings["measures"] = {spec.name: spec.description for spec in specs}
    common = {
        "format": FORMAT,
        "model": run.digest.text,
        "settings": {name: run.settings[name] for name in ("key", "engine", "side")},
        "versions": versions(),
    }
    root = ResumableFolder(folder, common, holds="an evaluation", suffix=".npz", difference=difference, keyed=True)
    methods, maps, measured = {}, {}, {}
    for method in run.methods:
        place = f"methods/{file_name(method.name)}"
        by_method = {"methods": {method.name: method.description}}
        content = {f"method {method.name!r}": method.content}
        manifest: dict[str, Any] = by_method | {"content": content}
        methods[method.name] = Results(root, place, manifest, METHOD, spec_difference)
        maps[method.name] = Results(root, f"{place}/maps", manifest, ("map",), spec_difference)
        for spec in specs:
            manifest = by_method | {"measures": {spec.name: spec.description}}
            manifest["content"] = content | {f"measure {spec.name!r}": spec.content}
            inside = f"{place}/measures/{file_name(spec.name)}"
            measured[method.name, spec.name] = Results(root, inside, manifest, MEASURE, spec_difference)
    return _Stores(folder, specs, Results(root, "clean", {}, CLEAN), methods, maps, measured)


def _clean(run: Run, stores: _Stores, batch: _Loaded) -> None:
    """Ask the model about a batch, as far as that is not kept; refuse other images, labels, masks and cells."""
    rows = zip(batch.images, batch.labels, strict=True)
    extra = lambda number: [part[number] for part in (batch.masks, batch.cells) if part is not None]
    content = np.array([fingerprint(image, label, *extra(number)) for number, (image, label) in enumerate(rows)])
    missing = stores.clean.missing(NO_BUDGETS, batch.ids)[0]
    if (~missing).any():
        known = stores.clean.gather(NO_BUDGETS, batch.ids[~missing])["content"][0]
        changed = batch.ids[~missing][known != content[~missing]]
        if len(changed):
            raise ValueError(
                f"{stores.folder} holds an evaluation of other images, labels or masks (image {changed[0]}): give "
                "another directory, or the same in the same order"
            )
    if missing.any():
        part = batch.rows(missing)
        predictions, probabilities = _answers(run.model, part)
        values = (part.labels, content[missing], predictions, probabilities)
        arrays = {name: value[None] for name, value in zip(CLEAN, values, strict=True)}
        stores.clean.save(NO_BUDGETS, part.ids, arrays)


def _answers(model: Any, batch: _Loaded) -> tuple[np.ndarray, np.ndarray]:
    """Ask which class the model sees, and how probable the label is; image by image, so that no batch decides."""
    rows = [np.asarray(model(image[None]), np.float64) for image in batch.images]
    if any(row.ndim != 2 or row.shape[1] < 2 for row in rows):
        return np.full(len(rows), -1), np.full(len(rows), np.nan)
    logits = np.concatenate(rows)
    if not (0 <= batch.labels).all() or batch.labels.max() >= logits.shape[1]:
        raise ValueError(f"labels must be classes of the model, 0 to {logits.shape[1] - 1}; found {batch.labels.max()}")
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return logits.argmax(axis=1), shares[np.arange(len(logits)), batch.labels]


def _measure_batch(run: Run, stores: _Stores, method: Spec, batch: _Loaded, bar: Any) -> None:
    """Run a method on the images of a batch for which it or a measure of it is not kept, and measure that."""
    own, maps = stores.methods[method.name], stores.maps[method.name]
    lacks = own.missing(NO_BUDGETS, batch.ids)[0]
    lacks_map = maps.missing(NO_BUDGETS, batch.ids)[0] & (batch.ids < run.max_maps)
    by_measure = {
        spec.name: stores.measured[method.name, spec.name].missing(NO_BUDGETS, batch.ids)[0] for spec in stores.measures
    }
    asked: np.ndarray = np.any([lacks, lacks_map, *by_measure.values()], axis=0)
    values = None
    if asked.any():
        bar.set_postfix_str(method.name)
        (values, arrays), *times = timed(partial(_values_of, method, run.model, batch.rows(asked)))
        if lacks.any():
            kept = {name: array[None, lacks[asked]] for name, array in arrays.items()}
            own.save(NO_BUDGETS, batch.ids[lacks], kept | {"times": np.array(times)})
        if lacks_map.any():
            maps.save(NO_BUDGETS, batch.ids[lacks_map], {"map": _maps(_rows(values, lacks_map[asked]))[None]})
    bar.update()
    for spec in stores.measures:
        if (which := by_measure[spec.name]).any():
            bar.set_postfix_str(f"{method.name}, {spec.name}")
            found = _measured(run, method, spec, batch.rows(which), _rows(values, which[asked]))
            stores.measured[method.name, spec.name].save(NO_BUDGETS, batch.ids[which], _arrays(found))
        bar.update()


def _rows(values: Any, where: np.ndarray) -> Any:
    return jax.tree.map(lambda leaf: leaf[where], values)


def _values_of(method: Spec, model: Any, batch: _Loaded) -> tuple[Any, dict[str, np.ndarray]]:
    """Attribute, and bring what is kept to the host."""
    found = method.attribute(model, batch.images, batch.labels)
    count = len(batch.images)
    floats = lambda leaf: np.full(count, np.nan) if leaf is None else np.asarray(leaf, np.float64)
    arrays = {name: floats(getattr(found, name)) for name in ("score", "baseline_score", "gap")}
    runs = 0 if found.evaluations is None else found.evaluations
    arrays["evaluations"] = np.array(np.broadcast_to(runs, (count,)), np.int64)
    return jax.tree.map(np.asarray, found.values), arrays


def _maps(values: Any) -> np.ndarray:
    """Take maps (n, height, width); (n, 0, 0) of what is no picture."""
    try:
        return maps_of(values).astype(np.float32)
    except ValueError:
        return np.zeros((len(jax.tree.leaves(values)[0]), 0, 0), np.float32)


def _measured(run: Run, method: Spec, spec: Spec, batch: _Loaded, values: Any) -> Measured:
    """Measure the values of one method."""
    try:
        needs = MEASURES[spec.base].needs
        if spec.base == "grid_pointing":
            return spec.function(values, batch.cells, side=run.side)
        if needs == "mask":
            return spec.function(values, batch.masks)
        if needs == "map":
            return spec.function(values)
        asked = method.attribute if needs == "method" else values
        return spec.function(run.model, batch.images, asked, batch.labels)
    except Exception as error:
        error.add_note(f"This came from measure {spec.name!r} of method {method.name!r}.")
        raise


def _arrays(found: Measured) -> dict[str, np.ndarray]:
    """Write what a measure says as arrays (1, n, ...)."""
    count = len(found.value)
    curve = np.zeros((count, 0)) if found.curve is None else np.asarray(found.curve)
    at = np.zeros(0) if found.at is None else np.asarray(found.at, np.float64)
    error = np.full(count, np.nan) if found.error is None else np.asarray(found.error)
    arrays = {"value": found.value, "error": error, "curve": curve, "at": np.tile(at, (count, 1))}
    arrays["evaluations"] = np.asarray(found.evaluations, np.int64)
    return {name: array[None] for name, array in arrays.items()}


def _gathered(
    run: Run, stores: _Stores, ids: np.ndarray, shown: np.ndarray, class_names: tuple[str, ...]
) -> AttributionEvaluation:
    """Join what is kept of all images."""
    clean = stores.clean.gather(NO_BUDGETS, ids)
    methods = {}
    for method in run.methods:
        store = stores.methods[method.name]
        kept = store.gather(NO_BUDGETS, ids)
        seconds, compile_seconds = kept.pop("times").sum(axis=0)
        found = {}
        for spec in stores.measures:
            arrays = stores.measured[method.name, spec.name].gather(NO_BUDGETS, ids)
            found[spec.name] = _as_measured(spec, {name: arrays[name][0] for name in MEASURE})
        record = {name: kept[name][0] for name in METHOD}
        shown_ids = ids[ids < run.max_maps]
        maps = stores.maps[method.name].gather(NO_BUDGETS, shown_ids)["map"][0] if len(shown_ids) else NO_MAPS
        methods[method.name] = MethodRecord(
            **record, seconds=float(seconds), compile_seconds=float(compile_seconds), measured=found, maps=maps
        )
    return AttributionEvaluation(
        labels=clean["labels"][0],
        predictions=clean["predictions"][0],
        probabilities=clean["probabilities"][0],
        methods=methods,
        measures={spec.name: spec.base for spec in stores.measures},
        images=shown,
        settings=run.settings,
        versions=versions(),
        class_names=class_names,
    )


def _as_measured(spec: Spec, arrays: dict[str, np.ndarray]) -> Measured:
    has_curve = arrays["curve"].shape[1] > 0
    return Measured(
        arrays["value"],
        error=arrays["error"] if np.isfinite(arrays["error"]).any() else None,
        curve=arrays["curve"] if has_curve else None,
        at=arrays["at"][0] if has_curve else None,
        evaluations=arrays["evaluations"],
        measure=spec.base,
    )
