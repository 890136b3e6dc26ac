"""An evaluation's folder: a manifest of what is evaluated, and one file per attack and batch, each written whole."""

import json
import time
from pathlib import Path

import numpy as np

from diffprog._util.files import replacing, write_text

CLOSE = 1e-3  # of the largest logit: what other devices may round differently, and other weights exceed


class Store:
    """A folder whose manifest is this one. ValueError if it holds another evaluation."""

    def __init__(self, folder, manifest):
        self.folder, path = Path(folder), Path(folder) / "manifest.json"
        manifest = json.loads(json.dumps(manifest))  # as it is when read again
        if not path.exists():
            if self.folder.is_dir() and any(self.folder.glob("*.npz")):
                raise ValueError(
                    f"{folder} must be new or an evaluation's; found .npz files without a manifest: give "
                    "another directory"
                )
            write_text(path, json.dumps(manifest, indent=1) + "\n")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(
                f"{path} must be a manifest in JSON; found none ({error}): give another directory"
            ) from None
        different = _difference(found, manifest)
        if different:
            raise ValueError(f"{folder} holds an evaluation {different}: give another directory, or the same again")

    def path(self, number, name) -> Path:
        return self.folder / f"{number:06d}.{name}.npz"

    def save(self, number, name, arrays):
        with replacing(self.path(number, name)) as file:
            np.savez_compressed(file, **arrays)

    def has(self, number, name) -> bool:
        return self.path(number, name).is_file()

    def load(self, number, name, only=None) -> dict[str, np.ndarray]:
        """All arrays, or `only` some."""
        with np.load(self.path(number, name), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files if only is None or key in only}

    def wait(self, count, names):
        """Until every file of `count` batches is there: other processes write some of them."""
        missing = [(number, name) for number in range(count) for name in names]
        while missing := [each for each in missing if not self.has(*each)]:
            time.sleep(0.1)


def _difference(found, expected):
    """How a manifest differs from the expected one, in words; "" if it doesn't."""
    for part in ("settings", "versions"):
        old, new = _flat(found.get(part)), _flat(expected[part])
        for name in [*old, *(name for name in new if name not in old)]:
            if old.get(name) != new.get(name):
                return f"of other settings ({name}: {old.get(name)!s:.60}, not {new.get(name)!s:.60})"
    old, new = found.get("first_batch", {}), expected["first_batch"]
    if old.get("images") != new["images"]:
        return "of other images or labels"
    old, new = np.array(old["logits"], float), np.array(new["logits"], float)
    scale = np.nanmax(np.abs(new))
    if old.shape != new.shape or not np.allclose(old, new, rtol=0, atol=CLOSE * scale, equal_nan=True):
        return "of another model"
    return ""


def _flat(tree, name=""):
    """A tree of dicts as one dict, with names joined by points."""
    if not isinstance(tree, dict):
        return {name: tree}
    found = {}
    for part, each in tree.items():
        found |= _flat(each, f"{name}.{part}".strip("."))
    return found
