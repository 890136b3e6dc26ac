"""How few places have the credit: entropy and Gini coefficient of its sizes."""

from typing import Any

import jax
import numpy as np

from diffprog._util.warning import warn
from diffprog.attribute._core.attribution import AttributionWarning
from diffprog.attribute.measures._credit import finite, places_of, values_of
from diffprog.attribute.measures._measured import Measured, measured


def complexity(attribution: Any) -> Measured:
    """Compute the entropy of the sizes of credit, as parts of their sum: low for credit in few places.

    It says nothing of whether they are the right ones.

    Args:
      attribution: an `Attribution`, or its values (n, ...). Of pictures (n, height, width, channels), channels are
        added up.

    Returns:
      `Measured`: in nats, 0 for credit in one place to log(number of places) for the same everywhere; NaN, with a
      warning, where all credit is 0.

    References:
      Bhatt et al., "Evaluating and aggregating feature-based model explanations", 2020, section 3.3.
    """
    rows = _sizes("complexity", attribution)
    parts = [row[row > 0] / row.sum() if row.any() else np.array([np.nan]) for row in rows]
    return measured("complexity", [0.0 - (each * np.log(each)).sum() for each in parts], len(rows))


def sparseness(attribution: Any) -> Measured:
    """Compute the Gini coefficient of the sizes of credit: high for credit in few places.

    Args:
      attribution: an `Attribution`, or its values (n, ...). Of pictures (n, height, width, channels), channels are
        added up.

    Returns:
      `Measured`: 0 for the same everywhere to 1 - 1 / (number of places) for credit in one place; NaN, with a warning,
      where all credit is 0.

    References:
      Chalasani et al., "Concise explanations of neural networks using adversarial training", 2020, section 5. Hurley &
      Rickard, "Comparing measures of sparsity", 2009.
    """
    found = []
    for row in _sizes("sparseness", attribution):
        count, ordered = len(row), np.sort(row)
        weights = (count - np.arange(1, count + 1) + 0.5) / count
        found.append(1 - 2 * (ordered @ weights) / row.sum() if row.any() else np.nan)
    return measured("sparseness", found, len(found))


def _sizes(measure: str, attribution: Any) -> np.ndarray:
    """Take absolute credit of each place: float64 (n, places)."""
    leaves = [finite(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(values_of(attribution))]
    if not leaves or any(leaf.ndim < 2 for leaf in leaves):
        raise ValueError("the attribution must have values (n, ...); found none for a place: add an axis, x[None]")
    rows = np.concatenate([np.abs(leaf).reshape(len(leaf), -1) for leaf in places_of(leaves)], axis=1)
    if not rows.any(axis=1).all():
        warn(
            f"{measure}: all credit is 0 for {int((~rows.any(axis=1)).sum())} of {len(rows)} examples",
            AttributionWarning,
        )
    return rows
