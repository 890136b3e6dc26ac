"""Does a model keep the examples of a batch apart? One in training mode does not, and its credit says nothing."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from diffprog._jax_internals import Tracer
from diffprog._jax_internals.rows import may_mix_rows
from diffprog._jax_internals.structure import Structure
from diffprog._transforms.closures import Bound, Lifted
from diffprog._util.warning import warn
from diffprog.attribute._core.attribution import AttributionWarning

NUM_KNOWN = 256
TOLERANCE = 1e-3  # of the largest score: more than rounding


_apart: dict[Structure, None] = {}  # the latest functions that were found to keep examples apart


def warn_of_mixing(function: Callable[..., Any], rows: Any, lifted: Lifted | Bound) -> None:
    """Warn if the score of an example depends on the others in its batch; the model is run only if it may be so.

    Args:
      function: pytree of arrays (n, ...) -> scores (n, ...).
      rows: the examples. Their values are not looked at where they have none.
      lifted: the same function, or a part of it: one that is known to keep examples apart is not looked at again.
    """
    if lifted.can_be_kept and lifted.structure in _apart:
        return
    few, more = (jax.make_jaxpr(function)(_first(rows, count)) for count in (2, 3))
    is_known = not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(rows))
    if may_mix_rows(few, more, 0) and is_known and _mixes(jax.jit(function), rows):
        warn(
            "the score of an example depends on the others in its batch. Is the model in training mode? Then call "
            "net.eval(), or give it train=False or use_running_average=True",
            AttributionWarning,
        )
    elif lifted.can_be_kept:
        while len(_apart) >= NUM_KNOWN:
            _apart.pop(next(iter(_apart)))
        _apart[lifted.structure] = None


def _first(rows, count):
    """Take examples from the start, from the beginning again where there are too few."""
    return jax.tree.map(lambda leaf: leaf[np.arange(count) % len(leaf)], rows)


def _mixes(function, rows):
    """Compare the score of an example beside a copy of itself, and beside one that is changed."""
    alike = jax.tree.map(lambda leaf: leaf[np.array([0, 0])], rows)
    changed = jax.tree.map(lambda leaf: leaf.at[1].set(leaf[1] / 2 if leaf.dtype.kind == "f" else leaf[1]), alike)
    if all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(alike), jax.tree.leaves(changed), strict=True)):
        changed = _first(rows, 2)
    beside, other = (np.asarray(function(each), np.float32) for each in (alike, changed))
    return bool(np.abs(beside[0] - other[0]).max() > TOLERANCE * np.abs(beside).max())
