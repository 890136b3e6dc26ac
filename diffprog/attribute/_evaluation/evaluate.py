"""Evaluate attribution methods on a data set: every method and measure on every image, kept as it goes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from diffprog._util.content_digest import content_digest
from diffprog._util.files import check_writable
from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.resumable import describe
from diffprog._util.spelling import answers_names
from diffprog._util.warning import warn
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._evaluation.results import AttributionEvaluation
from diffprog.attribute._evaluation.run import Run, evaluated
from diffprog.attribute._evaluation.specs import method_specs
from diffprog.images._labeled import batches
from diffprog.optimize._engine import vjp


@answers_names(MEANT)
@own_promotion()
def evaluate(
    model: Callable[..., Any],
    images: ArrayLike | str | Path | Iterable[tuple[ArrayLike, ArrayLike]],
    labels: ArrayLike | None = None,
    *,
    methods: Sequence[str] | Mapping[str, Any],
    measures: Sequence[str] | Mapping[str, Any] | None = None,
    key: Any,
    masks: ArrayLike | None = None,
    cells: ArrayLike | None = None,
    side: int = 2,
    baseline: Any = None,
    batch_size: int = 8,
    directory: str | Path | None = None,
    engine: str = "diffprog",
    max_maps: int = 6,
    class_names: Sequence[str] | None = None,
    preprocess: Callable[[np.ndarray], Any] | None = None,
    progress: str | None = None,
) -> AttributionEvaluation:
    """Compare attribution methods by measures, on the class that each image is labeled with.

    With a directory, results are kept as they come. A run that was killed goes on with the same call: it has lost at
    most one measure of one batch, and its result is equal bit for bit, but for times. A call with more methods, more
    measures or more images, with fewer, or with another `batch_size` computes only what is not there. What another
    model, other code or options of a method or measure, other images, labels, masks or versions have made is refused,
    in a sentence that names the change. A damaged file is set aside, with a warning, and computed again.

    Args:
      model: from images (n, ...) to logits (n, classes), or a `diffprog.models.Model`.
      images: an array (n, ...) with `labels`. Or a folder, whose files FOLDER/CLASS/* are read, where CLASS is one of
        `class_names`, what the model's labels know, or an index. Or an iterable of batches (images, labels).
      labels: class indices, int (n,); None for a folder or an iterable.
      methods: names of methods; or a dict from any name to one of these, to (name, options), to options of the method
        of that name, or to a function of (model, inputs, score). A method that samples is given a key of its own.
      measures: names of measures; or a dict from any name to (name, options), or to options of the measure of that
        name. Without "insertion", "deletion" is not measured, nor the other way round: they are read together. The
        default is insertion, deletion, ROAD, mu-fidelity and complexity, and what masks and cells make possible. Of
        pictures, sets of features are drawn from a grid of 9 x 9 cells, probabilities are measured in 40 steps of
        insertion, from a blurred picture, and deletion; options change this.
      key: a JAX random key, or a seed. With the names of methods and measures, it decides every random draw.
      masks: where the objects are, bool (n, height, width), for `energy` and `pointing_game`.
      cells: int (n,), the number of the right picture of each mosaic, for `grid_pointing`.
      side: pictures in a row of a mosaic.
      baseline: given to methods and measures that take one and have none among their options.
      batch_size: images to read and attribute at once. Results do not depend on it.
      directory: where results are kept, and the report at the end; None keeps nothing.
      engine: gradients by "diffprog" or by "jax".
      max_maps: number of images, the first ones, whose maps are on the page.
      class_names: names of the classes, for the report and for folders; `model.labels` if None.
      preprocess: applied to a file's image (height, width, 3) in [0, 1]. If None, a model with a `size` gets central
        squares of that size.
      progress: a caption, which switches on a progress bar with the time left.

    Returns:
      Means and values of all measures of all methods; `print` shows the table, `markdown()` writes it.

    Raises:
      ValueError: an argument cannot be used, or the directory holds another evaluation; the message says what to do.
    """
    batch_size, side = check_count(batch_size, "batch_size"), check_count(side, "side", 2)
    max_maps, key = check_count(max_maps, "max_maps", 0), random_key(key)
    vjp(engine)  # refuses another one
    specs = method_specs(methods, key, baseline, engine)
    if directory is not None:
        check_writable(directory, "directory")
    digest = content_digest(model, "model")
    if directory is not None and digest.unknown:
        warn(
            f"{digest.unknown[0]}, which cannot be compared from run to run: a run that goes on in this directory "
            "takes the model for the same"
        )
    names = tuple(class_names if class_names is not None else getattr(model, "labels", ()))
    data = batches(model, images, labels, batch_size, names or None, preprocess)
    settings = {
        "key": describe(key),
        "engine": engine,
        "side": side,
        "baseline": describe(baseline),
        "batch_size": batch_size,
        "max_maps": max_maps,
    }
    run = Run(
        model, digest, specs, measures, key, baseline, _masks(masks), _cells(cells, side), side, max_maps, settings
    )
    with TemporaryDirectory() if directory is None else nullcontext(directory) as folder:
        evaluation = evaluated(run, data, Path(folder), names, progress)
        if directory is not None:
            evaluation.write(directory)
    return evaluation


def _masks(masks: Any) -> np.ndarray | None:
    if masks is None:
        return None
    found = np.asarray(masks)
    if found.dtype != bool or found.ndim != 3:
        raise ValueError(
            f"masks must be bool (n, height, width); found {found.dtype} {found.shape}: compare with a number"
        )
    return found


def _cells(cells: Any, side: int) -> np.ndarray | None:
    if cells is None:
        return None
    found = np.asarray(cells)
    if found.dtype.kind not in "iu" or found.ndim != 1 or not ((0 <= found) & (found < side**2)).all():
        raise ValueError(f"cells must be integers (n,) of 0 to {side**2 - 1}; found {found.dtype} {found.shape}")
    return found
