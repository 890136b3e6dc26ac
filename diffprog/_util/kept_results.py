"""Rows of arrays that long work keeps, found by what they are of, in whatever file they are.

Each .npz file of a folder holds the results of some images, of several searches each if there are any. So work on more
images, on fewer, or in batches of another size goes on with what is there.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np

from diffprog._util.files import read_arrays, write_arrays
from diffprog._util.fingerprint import fingerprint
from diffprog._util.resumable import DAMAGE, ResumableFolder, changed_setting, set_aside

NO_BUDGETS = np.array([np.inf])  # of what does not depend on budgets


class Place(NamedTuple):
    """Where the result of an image at a budget is."""

    part: int
    search: int
    column: int


class Part(NamedTuple):
    """A file, and its arrays [searches, images, ...] by name."""

    path: Path
    rows: dict[str, np.ndarray]
    times: np.ndarray  # seconds without compilation, seconds of compilation


class Results:
    """What is kept of one part of an evaluation, such as an attack, or the images as they are.

    Attributes:
        names: Of the arrays [searches, images, ...] that every file has.
    """

    def __init__(
        self,
        root: ResumableFolder,
        place: str,
        manifest: dict[str, Any],
        names: Sequence[str],
        difference: Callable[[Any, Any], str] = changed_setting,
        **needs: int,
    ):
        """Open the folder, which may be new, and read what is there.

        Args:
            root: The evaluation's folder, with what decides all of its results.
            place: Of this folder in it.
            manifest: What decides the results besides; ValueError for a folder with another one.
            names: Of the arrays that every file has.
            difference: From an old manifest and the new one to how they differ, in words; "" if they do not.
            **needs: What a file must have at least to serve, by name.
        """
        settings: Any = {"holds": "an evaluation", "suffix": ".npz", "keyed": True}
        folder = ResumableFolder(root.folder / place, manifest, difference=difference, **settings)
        self._folders = (root, folder)
        self._key = fingerprint(*(json.dumps(part.manifest, sort_keys=True) for part in self._folders))
        self._needs, self.names = needs, tuple(names)
        self._parts: list[Part] = []
        self._places: dict[tuple[float, int], Place] = {}
        self._read: set[str] = set()
        self.refresh()
        if self._parts:
            self._claim()

    def _claim(self) -> None:
        """Write the manifests, if they are not there: before the first file, or after one was damaged."""
        for folder in self._folders:
            folder.claim()

    def refresh(self) -> None:
        """Read files that were written since the last time, perhaps by other processes; set aside damaged ones."""
        for path in sorted(self._folders[1].folder.glob("*.npz")):
            if path.name not in self._read:
                try:
                    self._add(path, _read_whole(path, {*HEAD, *self._needs, *self.names}))
                except FileNotFoundError:
                    continue
                except DAMAGE as error:
                    set_aside(path, error)

    def missing(self, budgets: np.ndarray, image_ids: np.ndarray) -> np.ndarray:
        """Tell which results are not there, bool [budgets, images]."""
        rows = [[(float(budget), int(image)) not in self._places for image in image_ids] for budget in budgets]
        return np.array(rows, bool).reshape(len(budgets), len(image_ids))

    def save(self, budgets: np.ndarray, image_ids: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
        """Keep results [budgets, images, ...], and whatever else is in the arrays."""
        needs = {name: np.array(need) for name, need in self._needs.items()}
        head = {"key": np.array(self._key), "budgets": budgets, "image_ids": image_ids}
        arrays = {"times": np.zeros(2), **needs, **head, **arrays}
        digest = fingerprint(self._key, budgets, image_ids, needs)[:8]
        entry = f"{image_ids[0]:06d}-{image_ids[-1]:06d}-{digest}"
        self._claim()
        self._folders[1].write(entry, partial(write_arrays, arrays=arrays))
        self._add(self._folders[1].path(entry), arrays)

    def gather(self, budgets: np.ndarray, image_ids: np.ndarray) -> dict[str, np.ndarray]:
        """Join the results of images: arrays [budgets, images, ...] by name; and their `times`."""
        places = np.array(list(self._places_of(budgets, image_ids)), int)
        used, joined = np.unique(places[:, 0]), {}
        for name in self.names:
            sample = self._parts[used[0]].rows[name]
            values = np.empty((len(places), *sample.shape[2:]), sample.dtype)
            for part in used:
                chosen = places[:, 0] == part
                values[chosen] = self._parts[part].rows[name][places[chosen, 1], places[chosen, 2]]
            joined[name] = values.reshape(len(budgets), len(image_ids), *values.shape[1:])
        return joined | {"times": np.stack([self._parts[part].times for part in used])}

    def extras(
        self, names: Sequence[str], budgets: np.ndarray, image_ids: np.ndarray
    ) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Yield further arrays of each file with results that `gather` joins, and which results these are.

        The latter are rows (index of the search in the file, image id).
        """
        places = np.array(list(self._places_of(budgets, image_ids)), int)
        images = np.tile(image_ids, len(budgets))
        for part in np.unique(places[:, 0]):
            chosen = places[:, 0] == part
            yield read_arrays(self._parts[part].path, names), np.stack([places[chosen, 1], images[chosen]], axis=1)

    def wait(self, budgets: np.ndarray, image_ids: np.ndarray) -> None:
        """Wait for results that other processes write."""
        while True:
            try:
                list(self._places_of(budgets, image_ids))
                return
            except KeyError:
                time.sleep(0.1)
                self.refresh()

    def _places_of(self, budgets: np.ndarray, image_ids: np.ndarray) -> Iterator[Place]:
        for budget in budgets:
            for image in image_ids:
                yield self._places[float(budget), int(image)]

    def _add(self, path: Path, arrays: dict[str, np.ndarray]) -> None:
        """Take in a file, unless it was made with another key, or has less than is needed."""
        shape = (len(arrays["budgets"]), len(arrays["image_ids"]))
        rows = {name: arrays[name] for name in self.names}
        if any(values.shape[:2] != shape for values in rows.values()):
            raise ValueError(f"its arrays do not fit {shape[0]} budgets and {shape[1]} images")
        self._read.add(path.name)
        if str(arrays["key"]) != self._key or any(int(arrays[name]) < need for name, need in self._needs.items()):
            return
        self._parts.append(Part(path, rows, arrays["times"]))
        for search, budget in enumerate(arrays["budgets"]):
            for column, image in enumerate(arrays["image_ids"]):
                self._places.setdefault((float(budget), int(image)), Place(len(self._parts) - 1, search, column))


HEAD = ("key", "budgets", "image_ids", "times")


def _read_whole(path: Path, names: set[str]) -> dict[str, np.ndarray]:
    """Read arrays of a file after checking every byte of it."""
    with ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise BadZipFile(f"{damaged} has another checksum")
    return read_arrays(path, names)


def alike(missing: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Group what is missing, bool [budgets, images], into calls: which budgets, and which images lack just these."""
    patterns, group_of_image = np.unique(missing, axis=1, return_inverse=True)
    for group, pattern in enumerate(patterns.T):
        if pattern.any():
            yield pattern, np.ravel(group_of_image) == group
