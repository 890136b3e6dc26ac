"""Maximal sensitivity: how much an attribution changes under changes of the input that hardly matter."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from diffprog._util import draws
from diffprog._util.numbers import check_count, check_positive
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._core.question import check_inputs, is_float
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute.measures._credit import values_of
from diffprog.attribute.measures._measured import Measured
from diffprog.models import Model

BALLS = ("linf", "l2")
Method = Callable[..., Attribution]
"""(model, inputs, score) -> Attribution: a function of `diffprog.attribute`, or a `functools.partial` of one."""


@answers_names(MEANT)
@own_promotion()
def max_sensitivity(
    model: Callable[..., Any],
    inputs: Any,
    method: Method,
    score: Any = None,
    *,
    key: Any,
    samples: int = 10,
    radius: float = 0.02,
    norm: str = "linf",
    progress: str | None = None,
) -> Measured:
    """Find how much an attribution changes at most in a small ball around the input, relative to itself: low is good.

    The maximum over random draws is a lower bound of the true one, and rises with `samples`: compare methods at equal
    numbers only.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      method: of attribution, called as `method(model, inputs, score)`: `attribute.gradient`, or a `functools.partial`
        that fixes options, the key of a method that samples among them.
      score: what is explained.
      key: a JAX random key, or a seed; changes are the same for all examples.
      samples: number of changes.
      radius: of the ball, in units of the inputs.
      norm: "linf", whose changes are uniform in a cube as in the authors' code, or "l2", uniform in a ball. Of several
        inputs, all together are in the ball.
      progress: a caption, which switches on a progress bar.

    Returns:
      `Measured`: the largest |A(x + d) - A(x)| / |A(x)| in Euclidean norms; NaN where A(x) is 0. Images for a `Model`
      stay in [0, 1], so that some changes are smaller.

    Raises:
      ValueError: something does not fit; the message says what to do.

    References:
      Yeh et al., "On the (in)fidelity and sensitivity of explanations", 2019, definition 3.1.
    """
    if norm not in BALLS:
        raise ValueError(f"norm must be one of {', '.join(map(repr, BALLS))}; found {norm!r}")
    samples, radius = check_count(samples, "samples"), float(check_positive(radius, "radius"))
    inputs, count = check_inputs(model, inputs)
    first = check_method(method(model, inputs, score))
    start = _rows(first, count)
    largest, evaluations = np.zeros(count), _evaluations(first, count)
    for sample in _counted(samples, progress):
        changed = _changed(inputs, jax.random.fold_in(random_key(key), sample), radius, norm)
        if isinstance(model, Model):
            changed = jnp.clip(changed, 0, 1)
        found = method(model, changed, score)
        evaluations += _evaluations(found, count)
        distances = [np.linalg.norm(a - b) for a, b in zip(_rows(found, count), start, strict=True)]
        largest = np.maximum(largest, distances)
    sizes = np.array([np.linalg.norm(row) for row in start])
    value = np.where(sizes > 0, largest / np.where(sizes > 0, sizes, 1), np.nan)
    return Measured(value, evaluations=evaluations, measure="max_sensitivity")


def check_method(found: Any) -> Attribution:
    """Require what methods return, of one score."""
    if not isinstance(found, Attribution):
        raise ValueError(
            f"method must return an Attribution, as attribute.gradient or a functools.partial of it; found "
            f"{type(found).__name__}"
        )
    values_of(found)
    return found


def _rows(attribution: Any, count: int) -> np.ndarray:
    """Flatten the values of each example: float64 (n, ...)."""
    leaves = [np.asarray(leaf, np.float64).reshape(count, -1) for leaf in jax.tree.leaves(values_of(attribution))]
    return np.concatenate(leaves, axis=1)


def _evaluations(attribution: Attribution, count: int) -> np.ndarray:
    number = 0 if attribution.evaluations is None else attribution.evaluations
    return np.array(np.broadcast_to(number, (count,)))


def _counted(samples: int, progress: str | None) -> Any:
    return tqdm(range(samples), desc=progress, disable=progress is None, leave=False, unit="attribution")


def _changed(inputs: Any, key: jax.Array, radius: float, norm: str) -> Any:
    """Add one change in the ball to every example."""
    leaves, tree = jax.tree.flatten(inputs)
    where = [number for number, leaf in enumerate(leaves) if is_float(leaf)]
    if not where:
        raise ValueError("max_sensitivity changes inputs of floats; found integers alone")
    keys = jax.random.split(key, len(where) + 1)
    shapes = [leaves[number].shape[1:] for number in where]
    if norm == "linf":
        changes = [np.asarray(draws.uniform(k, shape, -1, 1)) for k, shape in zip(keys, shapes, strict=False)]
        scale = radius
    else:
        changes = [np.asarray(draws.normal(k, shape)) for k, shape in zip(keys, shapes, strict=False)]
        size = np.sqrt(sum(np.sum(each.astype(np.float64) ** 2) for each in changes))
        dimension = sum(each.size for each in changes)
        scale = radius * float(draws.uniform(keys[-1])) ** (1 / dimension) / size
    for number, change in zip(where, changes, strict=True):
        leaf = leaves[number]
        leaves[number] = leaf + jnp.asarray(change.astype(np.float64) * scale, leaf.dtype)[None]
    return jax.tree.unflatten(tree, leaves)
