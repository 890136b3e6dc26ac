"""`dp.tap`: give a value a name."""

from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.tree_util import keystr, tree_map_with_path

from diffprog._jax_internals import is_array_type


class ModuleOutput(str):
    """The name under which `named_modules` taps what a module returns, to be told from the user's own taps."""

    __slots__ = ()


class LayerName(str):
    """The name of one of a network's layers, under which the network taps it; globs do not mean it."""

    __slots__ = ()


class Leaf(str):
    """The name of one leaf of a tapped pytree.

    Attributes:
      whole: the name that was given to the pytree.
    """

    whole: str

    def __new__(cls, whole: str, place: str):
        leaf = super().__new__(cls, whole + place)
        leaf.whole = whole
        return leaf


def tap(x: Any, name: str) -> Any:
    """Name a value, so that it and its gradient can be found.

    It changes nothing else: it is JAX's own named identity (`jax.ad_checkpoint.checkpoint_name`, whose names are found
    in the same way), for which every transformation has a rule and which compiles to nothing.

    Args:
      x: an array, or a pytree of arrays, whose leaves are named `name` followed by their place: "hidden['mean']".
      name: any text, not empty.

    Returns:
      `x` under its name.

    Raises:
      TypeError: `name` is no text, or is empty, or a leaf of `x` is no array.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"a tap takes a name, some text that is not empty; found {name!r}")
    for leaf in jax.tree.leaves(x):
        if not is_array_type(leaf):
            raise TypeError(f"a tap names arrays; found {leaf!r} of type {type(leaf).__name__} under {name!r}")
    return named(x, name)


def named(x, name: str):
    """Name the leaves of `x` that are arrays; others are left as they are."""

    def one(place, leaf):
        if not is_array_type(leaf):
            return leaf
        if isinstance(name, ModuleOutput) or not place:
            return checkpoint_name(leaf, name)
        return checkpoint_name(leaf, Leaf(name, keystr(place)))

    return tree_map_with_path(one, x)
