"""Checkpoints: arrays by safetensors with a JSON header, whole or not there, and nothing in them is executed."""

import contextlib
import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from diffprog._util.files import replacing
from diffprog._util.resumable import set_aside

NATIVE = "biuf"  # kinds of types that safetensors has; it lacks complex numbers, and NumPy bfloat16 and float8
SUFFIX = ".safetensors"


def write_checkpoint(folder: Path, step: int, tree: Any, notes: dict[str, Any], keep: int) -> Path:
    """Write a pytree of arrays and keys, and remove all but the newest `keep` checkpoints.

    Args:
      folder: where checkpoints are.
      step: the number that it is named by.
      tree: pytree of arrays and random keys.
      notes: whatever else belongs to it, as JSON has it.
      keep: number of checkpoints to keep.

    Returns:
      The file's path.
    """
    arrays: dict[str, np.ndarray] = {}
    raw: dict[str, list] = {}
    for name, leaf in _named(tree):
        array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        if array.dtype.kind not in NATIVE or array.dtype.itemsize > 8:
            raw[name] = [array.dtype.name, list(array.shape)]
            array = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        arrays[name] = np.array(array, order="C")
    header = json.dumps({"notes": notes, "raw": raw, "digest": _digest(arrays)})
    content = safetensors.numpy.save(arrays, {"diffprog": header})
    path = folder / f"checkpoint-{step:010d}{SUFFIX}"
    with replacing(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(folder)
    for old in _newest_first(folder)[keep:]:
        old.unlink(missing_ok=True)
    return path


def read_newest(folder: Path, like: Any, accept: Any = lambda notes: None) -> tuple[Any, dict[str, Any]] | None:
    """Read the newest checkpoint that is whole; damaged ones are set aside.

    Args:
      folder: where checkpoints are.
      like: pytree of the same structure, types and shapes.
      accept: called with the notes; a ValueError of it means that the checkpoint is no good.

    Returns:
      The pytree and its notes; None if there is none.
    """
    for part in folder.glob(".*.part"):  # of a process that was killed while it wrote
        with contextlib.suppress(OSError):
            part.unlink()
    for path in _newest_first(folder):
        try:
            tree, notes = _read(path, like)
            accept(notes)
            return tree, notes
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
            set_aside(path, error)
    return None


def _read(path: Path, like: Any) -> tuple[Any, dict[str, Any]]:
    with safetensors.safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["diffprog"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}
    if _digest(arrays) != header["digest"]:
        raise ValueError("its content is not what was written")
    leaves = []
    for name, leaf in _named(like):
        array = arrays[name]
        if name in header["raw"]:
            dtype, shape = header["raw"][name]
            array = np.frombuffer(array.tobytes(), jnp.dtype(dtype)).reshape(shape)
        expected = jax.random.key_data(leaf) if _is_key(leaf) else leaf
        if array.shape != expected.shape or array.dtype != expected.dtype:
            raise ValueError(f"{name} is {array.dtype}{array.shape}, and not {expected.dtype}{expected.shape}")
        restored = jnp.asarray(array)
        leaves.append(jax.random.wrap_key_data(restored, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else restored)
    return jax.tree.unflatten(jax.tree.structure(like), leaves), header["notes"]


def _named(tree: Any) -> list[tuple[str, Any]]:
    """Name the leaves by their paths, and by their numbers where paths are equal."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [
        (f"{i:04d} {jax.tree_util.keystr(path, simple=True, separator='/')}", leaf)
        for i, (path, leaf) in enumerate(leaves)
    ]


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}:{array.dtype}:{array.shape}:".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"checkpoint-*{SUFFIX}"), reverse=True)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
