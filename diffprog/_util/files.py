"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary file under a temporary name; it takes its place at the end, and is removed after an error.

    Missing folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def check_writable(folder: str | Path, name: str) -> Path:
    """Make a folder if it is missing, and check that files can be written there, before the work for them is done.

    Args:
        folder: The folder.
        name: Of the argument, for the message.

    Returns:
        The folder's path.

    Raises:
        ValueError: If no file can be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(
            f"{name} must be a folder that can be written; found {folder} ({reason}): give another"
        ) from None
    return folder


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8; returns the path."""
    with replacing(path) as file:
        file.write(text.encode())
    return Path(path)


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> Path:
    """Write arrays by name as a compressed .npz file; returns the path."""
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # a name might be NumPy's `allow_pickle`
    return Path(path)


def read_arrays(path: str | Path, names: Container[str] | None = None) -> dict[str, np.ndarray]:
    """Read the arrays of a .npz file by name: all, or those of `names` that it has."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files if names is None or name in names}
