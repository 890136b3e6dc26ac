"""`evaluate`: what comes in is checked, and handed to the work."""

from collections.abc import Callable
from contextlib import nullcontext
from tempfile import TemporaryDirectory

import jax

from diffprog.attack._engine import border
from diffprog.attack._engine.method import ExpectationOverTransformation
from diffprog.attack._evaluation.data import batches
from diffprog.attack._evaluation.entries import checked_attacks, checked_epsilons, plain
from diffprog.attack._evaluation.results import Evaluation
from diffprog.attack._evaluation.work import Work
from diffprog.attack._norms import NORMS, Norm, linf


def evaluate(
    model: Callable | ExpectationOverTransformation,
    images,
    labels=None,
    *,
    attacks: dict[str, Callable],
    epsilons,
    key: jax.Array,
    norm: Norm = linf,
    batch_size: int = 128,
    directory=None,
    bounds=(0.0, 1.0),
    devices=None,
    engine="diffprog",
    keep_images=False,
    most_hard: int = 12,
    names=None,
    prepare=None,
    progress=None,
) -> Evaluation:
    """The accuracy of a model on a data set, clean and under attacks, at several budgets.

    model:       images [n, ...] within `bounds` -> logits [n, classes], or `ExpectationOverTransformation`.
    images:      an array [n, ...] with `labels`, int [n]; or a folder, whose files FOLDER/CLASS/* are read as images,
                 where CLASS is one of `names`, or what `model.label_index` knows, or a number; or any iterable of
                 (images, labels) batches. Never more than a batch is in memory.
    attacks:     by name: attacks of this package, `functools.partial`s of them, or functions like them. One that takes
                 `epsilon` searches within each budget; one that doesn't searches for the smallest perturbation, which
                 tells its success at every budget.
    epsilons:    budgets, increasing, in units of `norm`. A success counts at each budget that its perturbation,
                 measured here, is not larger than.
    key:         decides every random draw, together with an attack's name and an image's number.
    batch_size:  images to read and to attack at once. Results are equal bit for bit wherever it is.
    directory:   where the work is kept as it goes, and the report at the end. A run that was killed is taken up by
                 the same call and has lost at most a batch of one attack; its result is equal bit for bit. Under
                 `jax.distributed` each process does its share of the batches and returns the whole result, all in one
                 directory that they share; process 0 writes the report.
    devices:     of this process, over which the rows of a batch are divided, rounded up to a multiple of their number.
    keep_images: keep each image's smallest success of each attack (or else what it was last turned into) in the
                 attack's files, as "images".
    most_hard:   how many of the images that the smallest perturbations break are kept in any case.
    names:       of the classes, for the report; those of the model if it has `labels`.
    prepare:     image of a file [height, width, 3] -> image; if left out, a model with a `size` gets central squares.
    progress:    a caption, which switches on a progress bar.

    Raises ValueError on a directory that holds another evaluation: of other settings, versions, data or another model.
    """
    border.checked_counts(batch_size=batch_size, most_hard=most_hard)
    norm, key = border.checked_norm(norm, tuple(NORMS.values())), border.checked_key(key)
    epsilons = checked_epsilons(epsilons)
    common = {"key": key, "batch_size": batch_size, "bounds": bounds, "engine": engine}
    common |= {"devices": devices} if devices else {}
    entries = checked_attacks(attacks, norm, epsilons, common)
    if jax.process_count() > 1 and directory is None:
        raise ValueError(
            "an evaluation by several processes needs a directory that they share; found none: give one with directory="
        )
    settings = {
        "attacks": {entry.name: entry.text for entry in entries},
        "norm": norm.name,
        "epsilons": epsilons.tolist(),
        "bounds": plain(bounds),
        "key": plain(key),
        "batch_size": batch_size,
        "engine": engine,
        "most_hard": most_hard,
        "keep_images": bool(keep_images),
    }
    names = tuple(names if names is not None else getattr(model, "labels", ()))
    data = batches(model, images, labels, batch_size, names or None, prepare)
    work = Work(_hashable(model), entries, epsilons, norm, settings, key, devices)
    with TemporaryDirectory() if directory is None else nullcontext(directory) as folder:
        result = work.run(data, folder, names, progress)
        if directory is not None and jax.process_index() == 0:
            result.write(directory)
    return result


def _hashable(model):
    """A model by whose value compiled programs are found again from batch to batch."""
    try:
        hash(model)
    except TypeError:
        if isinstance(model, ExpectationOverTransformation):
            return model._replace(model=lambda images, key: model.model(images, key))
        return lambda images: model(images)
    return model
