"""Images and labels, a batch at a time, from arrays, from a folder, or from any iterable of batches."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffprog.images import network_crop, read_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


class Batch(NamedTuple):
    """A part of the data set, which is read when it is asked for."""

    number: int
    load: Callable  # () -> images, labels


def batches(model, images, labels, size: int, names=None, prepare=None) -> Iterator[Batch]:
    """The data set as batches of `size` images, of which the last may have fewer; see `evaluate`."""
    if isinstance(images, str | Path):
        files, classes = _listed(model, Path(images), names)
        read = partial(_read, prepare or _default_preparation(model))
        loads = (partial(read, files[at : at + size], classes[at : at + size]) for at in range(0, len(files), size))
    elif labels is not None:
        if len(images) != len(labels):
            raise ValueError(
                f"labels must be one class index per image; found {len(labels)} for {len(images)} images: "
                "cut the longer"
            )
        cut = lambda at: (images[at : at + size], labels[at : at + size])
        loads = (partial(cut, at) for at in range(0, len(images), size))
    elif hasattr(images, "shape"):
        raise ValueError("images in an array need labels; found none: give one class index per image")
    else:
        loads = (lambda read=read: read for read in _regrouped(images, size))
    return (Batch(number, load) for number, load in enumerate(loads))


def _listed(model, folder, names):
    """The image files of FOLDER/CLASS/, and their classes, in the order of their paths."""
    if not folder.is_dir():
        raise ValueError(f"images must be a folder with a folder for each class; found no folder {folder}")
    files = [path for path in sorted(folder.glob("*/*")) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise ValueError(f"images must be in {folder}/CLASS/, one folder for each class; found no image files there")
    index = {name: _class_of(model, name, names) for name in dict.fromkeys(path.parent.name for path in files)}
    return files, [index[path.parent.name] for path in files]


def _class_of(model, name, names):
    if names is not None and name in names:
        return list(names).index(name)
    if hasattr(model, "label_index"):
        return model.label_index(name)
    if name.isdigit():
        return int(name)
    raise ValueError(
        f"folder {name!r} must be the name or number of a class of the model; found a model without "
        "names: give the names of its classes in order with names="
    )


def _default_preparation(model):
    side = getattr(model, "size", None)
    return partial(network_crop, size=side) if isinstance(side, int) else lambda image: image


def _read(prepare, files, classes):
    images = [np.asarray(prepare(read_image(path)), np.float32) for path in files]
    for path, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise ValueError(
                f"images must be of one shape; found {images[0].shape} and, in {path}, {image.shape}: "
                "crop or resize them with prepare="
            )
    return np.stack(images), np.array(classes)


def _regrouped(pairs, size):
    """Batches of any sizes as batches of one size, so that a result does not depend on how the data came."""

    def singles():
        for images, labels in pairs:
            yield from zip(np.asarray(images), np.asarray(labels), strict=True)

    rest = singles()
    while some := list(islice(rest, size)):
        yield np.stack([image for image, _ in some]), np.stack([label for _, label in some])
