"""An evaluation's folder: a manifest of what is evaluated, and one file per attack and batch."""

from collections.abc import Container
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from diffprog._util.files import read_arrays, write_arrays
from diffprog._util.resumable import ResumableFolder, changed_setting

CLOSE = 1e-3  # of the largest logit: what other devices may round differently, and other weights exceed


class Store(ResumableFolder):
    """The arrays of each batch and attack."""

    def __init__(self, folder: Path, manifest: dict[str, Any]):
        """Open a folder, which may be new; ValueError if it holds another evaluation."""
        super().__init__(folder, manifest, holds="an evaluation", suffix=".npz", difference=_difference)

    def save(self, entry: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep arrays."""
        self.write(entry, partial(write_arrays, arrays=arrays))

    def load(self, entry: str, only: Container[str] | None = None) -> dict[str, np.ndarray]:
        """Read the arrays, all or `only` some; ValueError if the file is damaged."""
        try:
            return read_arrays(self.path(entry), only)
        except (BadZipFile, EOFError, ValueError) as error:
            raise ValueError(f"{self.path(entry)} is damaged ({error}): remove it, and it is made anew") from None


def entry_name(batch: int, name: str) -> str:
    """Name the entry of a batch and an attack."""
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
    same = old_logits.shape == new_logits.shape
    same = same and np.allclose(old_logits, new_logits, rtol=0, atol=tolerance, equal_nan=True)
    return "" if same else "of another model"
