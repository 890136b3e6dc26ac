"""The directory of a fit: what it was made of, its history, and its newest checkpoints."""

import time
from typing import Any

import jax

from diffprog._util.files import check_writable
from diffprog._util.processes import agree, is_first, is_spread, wait_for_all
from diffprog._util.resumable import ResumableFolder, by_content, changed_setting, describe
from diffprog.fit._checkpoints import SUFFIX, read_newest, write_checkpoint
from diffprog.fit._history import Rows

HISTORY = "history.jsonl"


class Directory:
    """Files of one fit.

    Attributes:
      rows: the history, which is written there.
      saved: the step of the newest checkpoint that this run wrote. Of several processes the first one writes.
    """

    def __init__(self, folder: Any, batches: Any, made_of: dict, settings: dict, seconds: float, keep: int):
        self._path, self._seconds, self._keep = check_writable(folder, "directory"), seconds, keep
        if not batches.can_resume:
            raise ValueError(
                "data cannot tell their place, so a fit cannot go on with them in a directory: give arrays, a list of "
                "batches, or an iterator with get_state and set_state; or leave directory out"
            )
        manifest = {
            "made of": {name: by_content(value, name) for name, value in made_of.items()} | {"data": batches.digest()},
            "settings": {name: describe(value) for name, value in settings.items()},
        }
        self._folder = ResumableFolder(self._path, manifest, "a fit", SUFFIX, difference=_difference)
        self.rows, self.saved, self._last = Rows(self._path / HISTORY, is_first()), -1, time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self._last >= self._seconds

    def read(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """Read the newest good checkpoint, and the history up to it.

        Raises:
          ValueError: Several processes find different ones.
        """
        if not is_first():  # which sets damaged files aside, and cuts the history
            wait_for_all("the directory of a fit is mended")
        found = read_newest(self._path, like, lambda notes: self.rows.check(notes["history"]))
        self.rows.read(found[1]["history"] if found else 0)
        if is_first():
            wait_for_all("the directory of a fit is mended")
        step = found[1]["step"] if found else -1
        if not agree(step):
            raise ValueError(
                f"directory must be one that all processes see; found step {step} in {self._path} here, and others "
                "elsewhere: give a folder on a shared file system"
            )
        self.saved = step
        return found

    def close(self) -> None:
        """Wait for the process that writes, so that what comes next finds all of it."""
        wait_for_all("the directory of a fit is written")

    def write(self, tree: Any, notes: dict[str, Any]) -> None:
        """Write a checkpoint, after the history that belongs to it."""
        if any(map(is_spread, jax.tree.leaves(tree))):
            raise ValueError(
                "directory holds parameters that each process has whole; found some that are spread over processes: "
                "replicate them over the mesh, or leave directory out"
            )
        if is_first():
            self._folder.claim()
            notes = notes | {"history": self.rows.sync()}
            write_checkpoint(self._path, notes["step"], tree, notes, self._keep)
        self.saved, self._last = notes["step"], time.monotonic()


def _difference(old: Any, new: Any) -> str:
    """Name what the fit in the directory was made of otherwise."""
    names = [name for name, digest in new["made of"].items() if old.get("made of", {}).get(name) != digest]
    if names:
        return f"of other {', '.join(names)}"
    return changed_setting(old.get("settings"), new["settings"])
