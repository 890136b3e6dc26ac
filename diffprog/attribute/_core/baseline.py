"""Baselines: what an input is compared with, as people give them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import Tracer
from diffprog._util.user_functions import call_traced
from diffprog.attribute._core.question import Question, floats, is_float, values_at

Baseline = Any
"""None for zeros, a number, an array that broadcasts to the inputs, a pytree like them, or a function of them.

With `at=`, it is an input whose values in these places are the baseline, or a dict from selector to the values.
"""


@dataclass(frozen=True)
class Data:
    """A data set whose rows are all baselines, over which scores are averaged.

    Attributes:
      rows: pytree like the inputs, with any number of rows.
    """

    rows: Any


def baseline_points(question: Question, baseline: Baseline) -> Any:
    """Find what each point is compared with.

    Args:
      question: whose points.
      baseline: see `Baseline`.

    Returns:
      A pytree like the question's points.

    Raises:
      ValueError: it has another structure or shape, or is not finite.
    """
    if isinstance(baseline, Data):
        raise ValueError(
            "this method compares with one baseline; found baselines.data, which is for expected_gradients and "
            "methods without gradients"
        )
    inputs = question.context[0]
    if question.moved is not None and isinstance(baseline, Mapping) and not _is_input(question, baseline, inputs):
        return _given_values(question, baseline)
    like = as_inputs(baseline, inputs, question.credited)
    if question.moved is None:
        return question.credited_in(like)
    return values_at(question.moved, (like, question.context[1]), question.count, question.block)


def as_inputs(baseline: Baseline, inputs: Any, credited: Sequence[bool] = ()) -> Any:
    """Make a pytree like the inputs of a baseline.

    Args:
      baseline: see `Baseline`.
      inputs: pytree of arrays (n, ...).
      credited: leaves for which a number stands, by default those of floats; the others stay as they are.
    """
    if callable(baseline):
        baseline = call_traced("baseline", baseline, inputs)
    tree: Any
    leaves, tree = jax.tree.flatten(inputs)
    if baseline is None or (np.ndim(baseline) == 0 and not isinstance(baseline, Mapping | list | tuple)):
        number = 0 if baseline is None else baseline
        flags = credited or floats(inputs)
        given = [number if flag or len(leaves) == 1 else leaf for flag, leaf in zip(flags, leaves, strict=True)]
    else:
        given, structure = jax.tree.flatten(baseline)
        if structure != tree and not len(given) == len(leaves) == 1:
            raise ValueError(
                f"baseline must be a number, or have the structure of the inputs, {tree}; found {structure}"
            )
    return jax.tree.unflatten(tree, [_like(each, leaf) for each, leaf in zip(given, leaves, strict=True)])


def _like(given, leaf):
    is_known = not isinstance(given, Tracer)
    if is_known and not is_float(leaf) and (np.asarray(given, np.float64) % 1 != 0).any():
        raise ValueError(f"baseline takes the place of integers, {leaf.dtype}; found fractions: give whole numbers")
    given = jnp.asarray(given, leaf.dtype)
    _check_finite(given)
    if not _broadcasts(given.shape, leaf.shape):
        raise ValueError(
            f"baseline must be a number, or broadcast to the inputs, {leaf.shape}, or to one of them; found shape "
            f"{given.shape}"
        )
    return jnp.broadcast_to(given, leaf.shape)


def _is_input(question, baseline, inputs):
    """Whether a dict is an input and no dict from selector to value."""
    if set(baseline) <= set(question.moved.selectors):
        return False
    return jax.tree.structure(baseline) == jax.tree.structure(inputs)


def _given_values(question, baseline):
    moved = question.moved
    unknown = [selector for selector in baseline if selector not in moved.selectors]
    if unknown or len(baseline) != len(moved.selectors):
        raise ValueError(
            f"baseline must have a value for each of at, {list(moved.selectors)}; found {list(baseline)}: give these, "
            "or an input that is run"
        )
    flat = moved.in_order(baseline)
    return [_like(each, point) for each, point in zip(flat, question.points, strict=True)]


def _broadcasts(shape, target):
    try:
        return np.broadcast_shapes(shape, target) == tuple(target)
    except ValueError:
        return False


def _check_finite(array):
    if not isinstance(array, Tracer) and jnp.issubdtype(array.dtype, jnp.floating):
        if not np.isfinite(np.asarray(array, np.float32)).all():
            raise ValueError("baseline must be finite; found NaN or infinity")


def data_points(question: Question, data: Any) -> tuple[Any, int]:
    """Find the points of a set of baselines.

    Args:
      question: whose points are compared with them.
      data: a pytree like the inputs, with any number m of rows.

    Returns:
      A pytree like the points, (m, ...), and m.

    Raises:
      ValueError: its structure or the shape of a row differs.
    """
    inputs = question.context[0]
    data = data.rows if isinstance(data, Data) else data
    rows = jax.tree.map(jnp.asarray, data)
    shapes = lambda tree: [leaf.shape[1:] for leaf in jax.tree.leaves(tree)]
    counts = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(rows)}
    if len(counts) != 1 or 0 in counts or shapes(rows) != shapes(inputs):
        found = [leaf.shape for leaf in jax.tree.leaves(rows)]
        wanted = [("m", *shape) for shape in shapes(inputs)]
        raise ValueError(f"baseline must be data to draw from, of shape {_text(wanted)}; found {_text(found)}")
    (count,) = counts
    rows = jax.tree.unflatten(
        jax.tree.structure(inputs),
        [row.astype(x.dtype) for row, x in zip(jax.tree.leaves(rows), jax.tree.leaves(inputs), strict=True)],
    )
    for leaf in jax.tree.leaves(rows):
        _check_finite(leaf)
    if question.moved is None:
        return question.credited_in(rows), count
    classes = jnp.zeros((count, question.context[1].shape[1]), jnp.int32)
    return values_at(question.moved, (rows, classes), count, question.block), count


def _text(shapes):
    return ", ".join("(" + ", ".join(map(str, shape)) + ")" for shape in shapes)
