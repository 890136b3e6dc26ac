"""Correlations in double precision."""

from typing import Any

import numpy as np
from scipy.stats import rankdata

SAME = 1e-12  # of the largest number: a spread below is rounding


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Compute Pearson's correlation; NaN where one side does not vary by more than rounding."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    scales = [np.abs(each).max(initial=0) for each in (a, b)]
    a, b = a - a.mean(), b - b.mean()
    sizes = [np.linalg.norm(each) for each in (a, b)]
    if any(size <= SAME * scale * np.sqrt(len(a)) for size, scale in zip(sizes, scales, strict=True)):
        return float("nan")
    return float(np.clip(a @ b / (sizes[0] * sizes[1]), -1, 1))


def rank_correlation(a: Any, b: Any) -> float:
    """Compute Spearman's correlation, ties with their mean rank."""
    return correlation(rankdata(np.ravel(a)), rankdata(np.ravel(b)))


def correlation_error(found: np.ndarray, samples: int) -> np.ndarray:
    """Estimate the standard error of a correlation of so many pairs, to first order."""
    return (1 - found**2) / np.sqrt(samples - 3)
