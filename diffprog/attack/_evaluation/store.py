"""An evaluation's folder: a manifest of what is evaluated, and one file per attack and batch."""

from collections.abc import Container, Iterable
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from diffprog._util.files import read_arrays, write_arrays
from diffprog._util.resumable import ResumableFolder, changed_setting

CLOSE = 1e-3  # of the largest logit: what other devices may round differently, and other weights exceed


class Store:
    """The arrays of each batch and attack, in files that are written whole."""

    def __init__(self, folder: str | Path, manifest: dict[str, Any]):
        """Open a folder, which may be new; ValueError if it holds another evaluation."""
        self._kept = ResumableFolder(folder, manifest, holds="an evaluation", suffix=".npz", difference=_difference)
        self.folder = self._kept.folder

    def save(self, batch: int, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep arrays."""
        self._kept.write(_entry(batch, name), partial(write_arrays, arrays=arrays))

    def has(self, batch: int, name: str) -> bool:
        """Tell whether arrays are kept."""
        return self._kept.has(_entry(batch, name))

    def load(self, batch: int, name: str, only: Container[str] | None = None) -> dict[str, np.ndarray]:
        """Read the arrays, all or `only` some; ValueError if the file is damaged."""
        path = self._kept.path(_entry(batch, name))
        try:
            return read_arrays(path, only)
        except (BadZipFile, EOFError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}): remove it, and it is made anew") from None

    def wait(self, num_batches: int, names: Iterable[str]) -> None:
        """Wait until every file of all batches is there: other processes write some of them."""
        names = list(names)
        self._kept.wait(_entry(batch, name) for batch in range(num_batches) for name in names)


def _entry(batch: int, name: str) -> str:
    return f"{batch:06d}.{name}"


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Say how a manifest differs from the new one: in settings, versions, data, or the model's logits."""
    settings = lambda manifest: {**manifest.get("settings", {}), "versions": manifest.get("versions")}
    if changed := changed_setting(settings(old), settings(new)):
        return changed
    old, new = old.get("first_batch", {}), new["first_batch"]
    if old.get("images") != new["images"]:
        return "of other images or labels"
    old_logits, new_logits = np.array(old["logits"], float), np.array(new["logits"], float)
    tolerance = CLOSE * np.nanmax(np.abs(new_logits))
    if old_logits.shape != new_logits.shape or not np.allclose(
        old_logits, new_logits, rtol=0, atol=tolerance, equal_nan=True
    ):
        return "of another model"
    return ""
