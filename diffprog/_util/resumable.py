"""Long work that may be killed at any moment, and goes on where it was.

Its results are entries: files that are written whole (`diffprog._util.files`), so that one that is there is complete.
What decides an entry's content is its key. Where one key holds for a whole folder, a manifest beside the entries says
it, and other work is refused there: `ResumableFolder`. Where each entry carries its own, an entry of another key, or a
damaged one, counts as missing, and is written anew: `read_entry`.
"""

import itertools
import json
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any, TypeVar
from zipfile import BadZipFile

import jax
import numpy as np

from diffprog._util.content_digest import content_digest
from diffprog._util.files import write_text
from diffprog._util.fingerprint import fingerprint
from diffprog._util.warning import warn

R = TypeVar("R")
DAMAGE = (ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error)


def set_aside(path: Path, problem: object) -> None:
    """Rename a damaged file to NAME.damaged, and warn of it: what was in it is made anew."""
    numbers = itertools.count(2)
    aside = path.with_name(f"{path.name}.damaged")
    while aside.exists():
        aside = path.with_name(f"{path.name}.damaged{next(numbers)}")
    try:
        path.replace(aside)
    except FileNotFoundError:  # another process was faster
        return
    reason = " ".join(str(problem).split())
    warn(f"{path} is damaged ({reason:.200}): it is now {aside.name}, and is made anew")


def read_entry(path: str | Path, read: Callable[[Path], R], is_current: Callable[[R], bool]) -> R | None:
    """Read an entry that carries its own key.

    Args:
        path: The entry's file. If it is damaged, it is set aside, and a warning names it.
        read: Reads it; an error of damaged files means that it is damaged.
        is_current: Whether what was read was made with the key that is asked for.

    Returns:
        What was read; None if the entry is missing, damaged or made with another key.
    """
    path = Path(path)
    try:
        entry = read(path)
    except FileNotFoundError:
        return None
    except DAMAGE as error:
        set_aside(path, error)
        return None
    try:
        return entry if is_current(entry) else None
    except (ValueError, KeyError, TypeError):
        return None


def versions() -> dict[str, str]:
    """Name the versions that results are made with."""
    try:
        ours = version("diffprog")
    except PackageNotFoundError:
        ours = "not installed"
    return {"diffprog": ours, "jax": jax.__version__, "python": python_version()}


def by_content(value: Any, name: str) -> str:
    """Take the digest of anything by its content, or warn that it has none and so is never the same again."""
    digest = content_digest(value, name)
    if digest.unknown:
        warn(f"{digest.unknown[0]}, which cannot be compared from run to run: no other run goes on with these results")
    return digest.key


def describe(value: Any) -> Any:
    """Write a setting as JSON has it, equally in every process.

    Args:
        value: None, a number, a text, an array, a random key, a path, or a list, tuple or dict of such values. Anything
            else is described by its attribute `name`, else by the name of the function or of the object's class.

    Returns:
        A JSON value. Of more than 32 elements, an array is described by type, shape and fingerprint.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        return array.tolist() if array.size <= 32 else f"{array.dtype} {list(array.shape)} {fingerprint(array)}"
    if isinstance(value, dict):
        return {str(name): describe(item) for name, item in value.items()}
    if isinstance(getattr(value, "name", None), str):
        return value.name
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if hasattr(value, "func"):  # a partial
        return {"function": describe(value.func), "arguments": describe([*value.args, value.keywords])}
    return getattr(value, "__qualname__", type(value).__qualname__)  # without its module: a script is `__main__`


def changed_setting(old: Any, new: Any) -> str:
    """Name the first setting in which two manifests differ: "of other settings (key: 3, not 4)", or ""."""
    old, new = _flat(old), _flat(new)
    for name in [*old, *(name for name in new if name not in old)]:
        if old.get(name) != new.get(name):
            return f"of other settings ({name}: {old.get(name)!s:.60}, not {new.get(name)!s:.60})"
    return ""


@dataclass
class ResumableFolder:
    """A folder whose entries were all made with the settings that its manifest holds.

    The manifest is written before the first entry. A folder of other settings is refused with a ValueError when it is
    opened, and nothing in it is touched; so is one with entries and no manifest.

    Attributes:
        folder: Its path; it may be new.
        manifest: What decides the entries, a dict that JSON can hold (see `describe`).
        holds: What the folder holds, for messages: "an evaluation".
        suffix: Of the entries' files, ".npz".
        name: The manifest's file.
        difference: From an old manifest and the new one to how they differ, in words; "" if they do not.
        keyed: Whether each entry says itself what made it; then a damaged manifest is set aside and written anew.
    """

    folder: Path
    manifest: dict[str, Any]
    holds: str
    suffix: str
    name: str = "manifest.json"
    difference: Callable[[Any, Any], str] = changed_setting
    keyed: bool = False

    def __post_init__(self) -> None:
        self.folder, self.manifest = Path(self.folder), json.loads(json.dumps(self.manifest))  # as it is when read
        self._check()

    def path(self, entry: str) -> Path:
        """File of an entry."""
        return self.folder / f"{entry}{self.suffix}"

    def has(self, entry: str) -> bool:
        """Whether an entry is there, and so complete."""
        return self.path(entry).is_file()

    def claim(self) -> None:
        """Write the manifest, if it is not there."""
        if not self._check():
            write_text(self.folder / self.name, json.dumps(self.manifest, indent=1) + "\n")

    def write(self, entry: str, save: Callable[[Path], Any]) -> None:
        """Write an entry by `save`, which writes a whole file or none, after the manifest."""
        self.claim()
        save(self.path(entry))

    def wait(self, entries: Iterable[str]) -> None:
        """Wait until all entries are there, some of which other processes write."""
        missing = list(entries)
        while missing := [entry for entry in missing if not self.has(entry)]:
            time.sleep(0.1)

    def _check(self) -> bool:
        """Say whether the manifest is there; refuse another one."""
        path = self.folder / self.name
        if not path.exists():
            if not self.keyed and self.folder.is_dir() and any(self.folder.glob(f"*{self.suffix}")):
                raise ValueError(
                    f"{self.folder} must be new or hold {self.holds}; found {self.suffix} files without {path.name}: "
                    "give another directory"
                )
            return False
        try:
            old = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            if self.keyed:
                set_aside(path, error)
                return False
            raise ValueError(
                f"{path} must be a manifest in JSON; found none ({error}): give another directory"
            ) from None
        if different := self.difference(old, self.manifest):
            raise ValueError(
                f"{self.folder} holds {self.holds} {different}: give another directory, or the same settings again"
            )
        return True


def _flat(tree: Any, name: str = "") -> dict[str, Any]:
    """Flatten a tree of dicts to one dict, with names joined by points."""
    if not isinstance(tree, dict):
        return {name: tree}
    return {
        path: leaf for part, item in tree.items() for path, leaf in _flat(item, f"{name}.{part}".strip(".")).items()
    }
