"""The work of an evaluation: batch by batch and attack by attack, each result kept before the next is begun."""

import hashlib
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from platform import python_version

import jax
import numpy as np
from tqdm import tqdm

from diffprog.attack._engine import border
from diffprog.attack._engine.loop import Loop
from diffprog.attack._engine.method import Oracle
from diffprog.attack._evaluation.hardest import FIELDS, best_search, candidates, hardest
from diffprog.attack._evaluation.model_checks import check_model
from diffprog.attack._evaluation.outcome import Outcome, joined, outcome
from diffprog.attack._evaluation.probe import probe
from diffprog.attack._evaluation.result_checks import check_results
from diffprog.attack._evaluation.results import Evaluation
from diffprog.attack._evaluation.store import Store
from diffprog.attack._evaluation.timing import timed


class Work:
    """What stays the same from batch to batch."""

    def __init__(self, model, entries, epsilons, norm, settings, key, devices):
        self.model, self.entries, self.epsilons, self.norm = model, entries, epsilons, norm
        self.settings, self.key, self.bounds = settings, key, tuple(settings["bounds"])
        self._impl = str(jax.random.key_impl(key))
        self.oracle = Oracle(model, False, None, settings["engine"])
        self.loop = Loop(None, self.oracle, settings["batch_size"], devices, self._impl)
        self.hardest_sizes = np.zeros(0)  # of the batches so far, as many as images are kept

    def run(self, data, folder, names, progress) -> Evaluation:
        """This process's share of the batches, and then the result of all."""
        processes, count, store = jax.process_count(), 0, None
        with tqdm(desc=progress, disable=progress is None, unit="batch") as bar:
            for part in data:
                count += 1
                mine = part.number % processes == jax.process_index()
                if not mine and store is not None:
                    continue
                images, labels = self._loaded(part)
                if store is None:
                    store, cautions = self._begun(folder, images, labels)
                if mine:
                    self._done(store, part.number, images, labels)
                bar.update()
        if store is None:
            raise ValueError("images must be at least one; found an empty iterable: was it read to its end before?")
        store.wait(count, ["clean", *(entry.name for entry in self.entries)])
        result = self._gathered(store, count, names)
        return replace(result, warnings=(*cautions, *check_results(result)))

    def _loaded(self, part):
        images, labels = part.load()
        images = border.checked_images(images, self.bounds)
        return images, border.checked_labels(labels, len(images))

    def _begun(self, folder, images, labels):
        """The store of this evaluation, and what the model's answers to the first batch warn of."""
        keys = self._keys(0, len(images))
        border.checked_reach(self.epsilons, self.norm, images, self.bounds)
        border.checked_logits(self.loop.logits(images, keys), labels)
        answers = probe(self.loop, self.oracle, images, labels, keys, self._impl, self.bounds)
        largest = [float(value) if np.isfinite(value) else None for value in answers.logits.max(axis=1)]
        manifest = {
            "settings": self.settings,
            "versions": versions(),
            "first_batch": {"images": _digest(images, labels), "logits": largest},
        }
        return Store(folder, manifest), check_model(answers)

    def _done(self, store, number, images, labels):
        """A batch with every attack; what is there already is only read."""
        digest = _digest(images, labels)
        if not store.has(number, "clean"):
            logits = self.loop.logits(images, self._keys(number, len(images)))
            before = np.where(np.isfinite(logits).all(axis=1), logits.argmax(axis=1), -1)
            store.save(number, "clean", {"labels": labels, "clean_predictions": before, "digest": np.array(digest)})
        clean = store.load(number, "clean")
        if str(clean["digest"]) != digest:
            raise ValueError(
                f"{store.folder} holds an evaluation of other images or labels (batch {number}): give "
                "another directory, or the same again"
            )
        sizes = np.full(len(images), np.inf)
        for entry in self.entries:
            if not store.has(number, entry.name):
                store.save(
                    number, entry.name, self._attacked(entry, number, images, labels, clean["clean_predictions"] >= 0)
                )
            sizes = np.minimum(sizes, Outcome(**store.load(number, entry.name, Outcome._fields)).smallest)
        broken = sizes[(sizes > 0) & np.isfinite(sizes)]
        self.hardest_sizes = np.sort([*self.hardest_sizes, *broken])[: self.settings["most_hard"]]

    def _attacked(self, entry, number, images, labels, valid) -> dict[str, np.ndarray]:
        """One attack on one batch: the arrays of its file. `valid` images have finite logits."""
        numbers, most = self._numbers(number, len(images)), self.settings["most_hard"]
        budgets = self.epsilons if entry.fixed else np.array([np.inf])
        options = entry.options | ({"image_ids": numbers[valid]} if entry.takes("image_ids") else {})
        result, spent, returned = None, (0.0, 0.0), np.repeat(images[None], len(budgets), axis=0)
        if valid.any():
            result, *spent = timed(lambda: entry.call(self.model, images[valid], labels[valid], **options))
            returned[:, valid] = np.reshape(result.images, (len(budgets), -1, *images.shape[1:]))
        size = np.stack([self.norm.measure(search.astype(np.float64) - images) for search in returned])
        found = outcome(result, valid, size[:, valid], budgets, *spent)
        best = returned[best_search(found), np.arange(len(images))]
        limit = self.hardest_sizes[-1] if len(self.hardest_sizes) == most else np.inf
        arrays = found._asdict() | candidates(found, numbers, labels, images, best, limit, most)
        return arrays | ({"images": best} if self.settings["keep_images"] else {})

    def _gathered(self, store, count, names) -> Evaluation:
        clean = [store.load(number, "clean", {"labels", "clean_predictions"}) for number in range(count)]
        parts = {
            entry.name: [store.load(number, entry.name, {*Outcome._fields, *FIELDS}) for number in range(count)]
            for entry in self.entries
        }
        outcomes = {
            name: joined([Outcome(**{field: part[field] for field in Outcome._fields}) for part in some])
            for name, some in parts.items()
        }
        hard = hardest([(name, part) for name, some in parts.items() for part in some], self.settings["most_hard"])
        return Evaluation(
            norm=self.norm.name,
            epsilons=self.epsilons,
            labels=np.concatenate([part["labels"] for part in clean]),
            clean_predictions=np.concatenate([part["clean_predictions"] for part in clean]),
            outcomes=outcomes,
            hardest=hard,
            warnings=(),
            settings=self.settings,
            versions=versions(),
            bounds=self.bounds,
            names=names,
        )

    def _numbers(self, number, count):
        """Of a batch's images in their data set."""
        return number * self.settings["batch_size"] + np.arange(count, dtype=np.uint32)

    def _keys(self, number, count):
        """Their bits: of the first question to a network that draws, which no attack asks."""
        return np.asarray(_folded(self.key, self._numbers(number, count)))


@jax.jit
def _folded(key, numbers):
    return jax.vmap(lambda number: jax.random.key_data(jax.random.fold_in(key, number)))(numbers)


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    try:
        ours = version("diffprog")
    except PackageNotFoundError:
        ours = "not installed"
    return {"diffprog": ours, "jax": jax.__version__, "python": python_version()}


def _digest(images, labels):
    return hashlib.sha256(images.tobytes() + labels.tobytes() + str(images.shape).encode()).hexdigest()[:32]
