"""Which leaves of a pytree are trained: a model goes in as it is, and the rest of it is kept."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.graph._selection.selectors import pattern

Train = str | Iterable[str] | Callable[[str, Any], bool] | None


class Join:
    """Puts trained leaves back among those that are kept.

    Attributes:
      kept: the leaves that are not trained, in the tree's order.
    """

    def __init__(self, structure: Any, leaves: list, trained: list[bool]):
        self._structure, self._leaves, self._trained = structure, leaves, trained
        self.kept = [leaf for leaf, yes in zip(leaves, trained, strict=True) if not yes]

    def __call__(self, trainable: Any) -> Any:
        if not self.kept:
            return trainable
        rest = iter(jax.tree.leaves(trainable))
        leaves = [next(rest) if yes else leaf for leaf, yes in zip(self._leaves, self._trained, strict=True)]
        return jax.tree.unflatten(self._structure, leaves)


def split(tree: Any, train: Train = None) -> tuple[Any, Join]:
    """Divide a pytree into the leaves that are trained, and the rest.

    Trainable are arrays of floats or complex numbers, and plain Python floats in dicts, lists and tuples; a module's
    field that is a Python float is one of its settings. Integers, flags, texts, functions and random keys are kept.

    Args:
      tree: any pytree: of arrays, or a model of Flax or Equinox.
      train: which of the trainable leaves to train, all by default: a glob for their paths ("decoder/*"; one for
        "decoder" means all in it), several globs, or a test `train(path, leaf)`.

    Returns:
      The pytree with None in the place of each leaf that is kept; and `join`, which puts leaves that have been trained
      back among those that are kept.

    Raises:
      ValueError: `train` is no such thing, or chooses nothing.
    """
    with_paths, structure = jax.tree_util.tree_flatten_with_path(tree)
    leaves = [leaf for _, leaf in with_paths]
    paths = [path_text(path) for path, _ in with_paths]
    able = [is_array(leaf) or (_is_number(leaf) and _in_container(tree, path)) for path, leaf in with_paths]
    chosen = _choose(train, {path: leaf for path, leaf, yes in zip(paths, leaves, able, strict=True) if yes})
    trained = [yes and path in chosen for path, yes in zip(paths, able, strict=True)]

    trainable = jax.tree.unflatten(
        structure, [leaf if yes else None for leaf, yes in zip(leaves, trained, strict=True)]
    )
    return trainable, Join(structure, leaves, trained)


def path_text(path: tuple) -> str:
    """Write a key path as a glob matches it: "layers/0/weight"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def is_array(leaf: Any) -> bool:
    """Whether a leaf is an array, of JAX or NumPy, of floats or complex numbers."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, float | complex)


def _in_container(tree: Any, path: tuple) -> bool:
    """Whether a leaf is an item of a dict, a list or a tuple, or the whole tree: not a module's field."""
    for key in path[:-1]:
        if isinstance(key, jax.tree_util.GetAttrKey):
            tree = getattr(tree, key.name)
        elif isinstance(key, jax.tree_util.SequenceKey | jax.tree_util.DictKey):
            tree = tree[key.idx if isinstance(key, jax.tree_util.SequenceKey) else key.key]
        else:
            return False
    return not path or isinstance(tree, dict | list | tuple)


def _choose(train: Train, leaves: dict[str, Any]) -> set[str]:
    if train is None:
        return set(leaves)
    if callable(train):
        chosen = {path for path, leaf in leaves.items() if train(path, leaf)}
        named = "train chooses no leaf"
    else:
        globs = [train] if isinstance(train, str) else list(train)
        if not all(isinstance(glob, str) for glob in globs):
            raise ValueError(f"train must be a glob for paths, several, or a test (path, leaf); found {train!r:.60}")
        chosen, named = set(), f"train={train!r:.60} fits no leaf"
        for glob in globs:
            fits = pattern(glob)
            found = {path for path in leaves if any(map(fits, _with_parents(path)))}
            if not found:
                named = f"train={glob!r:.60} fits no leaf"
                chosen = set()
                break
            chosen |= found
    if not chosen:
        close = difflib.get_close_matches(str(train), leaves, 3, 0.3) or list(leaves)[:5]
        there = f"there are {', '.join(close)}" if close else "there are no arrays of floats"
        raise ValueError(f"{named}; {there}")
    return chosen


def _with_parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
