"""What runs under every setting, and how its results are held against those without the setting."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class Entry(NamedTuple):
    """A public function and how far its results may be from those without a setting.

    Attributes:
      name: what the table calls it.
      run: () -> a pytree of arrays, numbers and strings.
      atol: difference that is allowed in any number.
      rtol: difference that is allowed besides, relative to the number.
      far: fraction of a result's elements that may differ by more: searches that halve and compare amplify a rounding.
    """

    name: str
    run: Callable[[], Any]
    atol: float = 1e-6
    rtol: float = 1e-5
    far: float = 0.0


def difference(entry: Entry, found: Any, expected: Any) -> float:
    """Hold two results of an entry against each other.

    Returns:
      The largest difference of all numbers, relative to the largest number of the same array, or to 1 if that is less.

    Raises:
      AssertionError: the results differ by more than rounding: in structure, types, whole numbers, words, or numbers.
    """
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    largest = 0.0
    for ours, theirs in zip(map(_array, jax.tree.leaves(found)), map(_array, jax.tree.leaves(expected)), strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        if ours.dtype.kind not in "fc":
            np.testing.assert_array_equal(ours, theirs)
            continue
        close = np.isclose(ours, theirs, atol=entry.atol, rtol=entry.rtol, equal_nan=True)
        if np.mean(~close) > entry.far:
            np.testing.assert_allclose(ours, theirs, atol=entry.atol, rtol=entry.rtol)
        apart = np.where(ours == theirs, 0, np.abs(ours - theirs))[close & np.isfinite(theirs)]
        scale = np.abs(theirs[np.isfinite(theirs)]).max(initial=1.0)
        largest = max(largest, float(apart.max(initial=0.0) / scale))
    return largest


def _array(leaf: Any) -> np.ndarray:
    """Take 16-bit floats as wider ones: NumPy's tests of closeness do not know them."""
    leaf = np.asarray(leaf)
    return leaf.astype(np.float64) if leaf.dtype.kind == "V" else leaf
