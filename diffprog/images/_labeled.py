"""Images and labels, a batch at a time, from arrays, from a folder, or from any iterable of batches."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from diffprog._util.warning import warn
from diffprog.images._files import network_crop, read_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


SYSTEM_FILES = ("Thumbs.db", "desktop.ini", "Icon\r")


@dataclass(frozen=True)
class Batch:
    """A part of the data set, which is read when it is loaded."""

    index: int
    image_ids: np.ndarray  # uint32, the images' numbers in the data set
    load: Callable[[], tuple[np.ndarray, np.ndarray]]  # images and labels


def batches(
    model: Any,
    images: Any,
    labels: Any,
    batch_size: int,
    class_names: Sequence[str] | None = None,
    preprocess: Callable[[np.ndarray], Any] | None = None,
) -> Iterable[Batch]:
    """Divide a data set into batches, of which the last may be shorter; see an `evaluate` for the arguments.

    Their number is known, as that of a list, unless the images are an iterable. None is read before it is loaded.
    """
    if isinstance(images, str | Path):
        files, classes = _listed(model, Path(images), class_names)
        read = partial(_read, preprocess or _default_preprocess(model))
        parts = _slices(len(files), batch_size)
        return _batches([(len(files[part]), partial(read, files[part], classes[part])) for part in parts], batch_size)
    if labels is not None:
        count = _count(images, labels)
        parts = _slices(count, batch_size)
        return _batches([(len(range(count)[part]), partial(_cut, images, labels, part)) for part in parts], batch_size)
    if hasattr(images, "shape"):
        raise ValueError("images in an array need labels; found none: give one class index per image")
    loads = ((len(pair[1]), partial(_cut, *pair, slice(None))) for pair in _regrouped(images, batch_size))
    return map(partial(_batch, batch_size), enumerate(loads))


def _batches(loads: Sequence[tuple[int, Any]], batch_size: int) -> list[Batch]:
    return [_batch(batch_size, each) for each in enumerate(loads)]


def _batch(batch_size: int, numbered: tuple[int, tuple[int, Any]]) -> Batch:
    index, (count, load) = numbered
    return Batch(index, np.arange(count, dtype=np.uint32) + np.uint32(index * batch_size), load)


def _count(images: Any, labels: Any) -> int:
    """Count the images of an array; refuse none, one without a batch, and another number of labels."""
    if np.ndim(labels) == 0 or np.ndim(images) < 2:
        raise ValueError(
            f"images must have shape (n, ...), and labels (n,); found {np.shape(images)} and {np.shape(labels)}: "
            "for one image, give images[None] and [label]"
        )
    if len(images) != len(labels):
        raise ValueError(
            f"labels must be one class index per image; found {len(labels)} for {len(images)} images: cut the longer"
        )
    if not len(images):
        raise ValueError(f"images must be at least one; found none, shape {np.shape(images)}: was a data set filtered?")
    return len(images)


def _slices(count: int, batch_size: int) -> list[slice]:
    """Divide indices into batches."""
    return [slice(start, start + batch_size) for start in range(0, count, batch_size)]


def _cut(images: Any, labels: Any, part: slice) -> tuple[np.ndarray, np.ndarray]:
    """Take a batch of arrays."""
    return images[part], labels[part]


def _listed(model: Any, folder: Path, class_names: Sequence[str] | None) -> tuple[list[Path], list[int]]:
    """List the image files of FOLDER/CLASS/ and their classes, in the order of their paths."""
    if not folder.is_dir():
        raise ValueError(f"images must be a folder with a folder for each class; found no folder {folder}")
    # a Mac's archives have 3/._a.png beside 3/a.png, and all of them again in __MACOSX
    visible = [path for path in sorted(folder.glob("*/*")) if not _is_hidden(path) and path.is_file()]
    files = [path for path in visible if path.suffix.lower() in SUFFIXES]
    skipped = [path for path in visible if path.suffix.lower() not in SUFFIXES]
    if skipped and files:
        kinds = ", ".join(sorted({path.suffix or path.name for path in skipped}))
        warn(
            f"{len(skipped)} of {len(visible)} files in {folder} are no images of a known kind ({kinds:.80}), and are "
            f"not evaluated: save them as {SUFFIXES[0]} if they should be"
        )
    if not files:
        raise ValueError(f"images must be in {folder}/CLASS/, one folder for each class; found no image files there")
    names = dict.fromkeys(path.parent.name for path in files)
    class_of = {name: _class_index(model, name, class_names) for name in names}
    return files, [class_of[path.parent.name] for path in files]


def _is_hidden(path: Path) -> bool:
    """Tell files and class folders that an operating system put beside the user's."""
    return path.name in SYSTEM_FILES or any(
        part.startswith(".") or part == "__MACOSX" for part in (path.name, path.parent.name)
    )


def _class_index(model: Any, name: str, class_names: Sequence[str] | None) -> int:
    """Find the class that a folder is named after."""
    if class_names is not None and name in class_names:
        return list(class_names).index(name)
    if hasattr(model, "label_index"):
        return model.label_index(name)
    if name.isdigit():
        return int(name)
    raise ValueError(
        f"folder {name!r} must be the name or number of a class of the model; found a model without "
        "names: give the names of its classes in order with class_names="
    )


def _default_preprocess(model: Any) -> Callable[[np.ndarray], Any]:
    """Crop to the square that a model with a `size` was trained for; leave images as they are otherwise."""
    side = getattr(model, "size", None)
    return partial(network_crop, size=side) if isinstance(side, int) else lambda image: image


def _read(
    preprocess: Callable[[np.ndarray], Any], files: Sequence[Path], classes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Read a batch of image files."""
    images = [np.asarray(preprocess(read_image(path)), np.float32) for path in files]
    for path, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise ValueError(
                f"images must be of one shape; found {images[0].shape} and, in {path}, {image.shape}: "
                "crop or resize them with preprocess="
            )
    return np.stack(images), np.array(classes)


def _regrouped(pairs: Iterable[tuple[Any, Any]], batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Regroup batches of any sizes into batches of one size, so that no result depends on how the data came."""

    def singles() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for images, labels in pairs:
            yield from zip(np.asarray(images), np.asarray(labels), strict=True)

    rest = singles()
    while some := list(islice(rest, batch_size)):
        yield np.stack([image for image, _ in some]), np.stack([label for _, label in some])
