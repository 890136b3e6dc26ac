"""What an attack did, judged on the arrays that it returned: by the evaluated model, the bounds and the budgets.

An attack is not believed: it may have asked another model, left its budget, or returned what is no image.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from diffprog.attack._engine.result import as_8bit
from diffprog.attack._evaluation.results import REPORTED
from diffprog.attack._norms import Norm

ROUNDING = 2.0**-23  # of the largest value of a pixel: float32 cannot tell apart what is closer
RELATIVE_ROUNDING = 1e-6  # of a budget
OUTCOME = (
    "success",
    "success_8bit",
    "size",
    "predictions",
    "nonfinite",
    "no_gradient",
    "first_success",
)  # replaced together


class Judge(NamedTuple):
    """What decides whether an array is a success."""

    logits_of: Callable[[np.ndarray, np.ndarray], np.ndarray]  # of images and their ids, by the evaluated model
    is_broken: Callable[[np.ndarray, np.ndarray], np.ndarray]  # of logits and labels
    norm: Norm
    bounds: tuple[Any, Any]


class Attacked(NamedTuple):
    """Images that were attacked, and what the attack returned for them."""

    images: np.ndarray  # [n, ...]
    labels: np.ndarray
    image_ids: np.ndarray
    clean_predictions: np.ndarray  # -1 where logits are not finite
    is_wrong: np.ndarray  # what is broken as it is
    returned: np.ndarray  # [S, n, ...]
    budgets: np.ndarray  # [S]
    reported: dict[str, np.ndarray]  # [S, n] by name: what the attack says of itself besides


def returned_images(name: str, result: Any, images: np.ndarray, num_searches: int) -> np.ndarray:
    """Take the images [S, n, ...] that an attack returned, as an `AttackResult` or as an array."""
    returned, shape = getattr(result, "images", result), (num_searches, *images.shape)
    try:
        returned = np.asarray(returned)
    except Exception:  # whatever another library's array raises
        returned = np.array(None)
    if returned.shape not in (shape, shape[1:] if num_searches == 1 else shape) or returned.dtype.kind not in "fV":
        raise ValueError(
            f"attack {name!r} must return images of shape {shape}, floats for each budget and image; found "
            f"{returned.dtype} {returned.shape}: return an AttackResult of this package, or such an array"
        )
    return returned.astype(np.float32).reshape(shape)


def reported_fields(result: Any, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Take what an attack says of its search: counts [S, n], with defaults for what it does not say."""
    fields = {}
    for name, default in REPORTED.items():
        values = np.asarray(getattr(result, name, default))
        values = values if values.dtype.kind in "biu" and values.size in (1, shape[0] * shape[1]) else np.array(default)
        fields[name] = (values.reshape(shape) if values.size > 1 else np.full(shape, values)).astype(type(default))
    return fields


def judged(attacked: Attacked, judge: Judge) -> dict[str, np.ndarray]:
    """Judge what was returned: arrays [S, n] by name, as `AttackRecord` explains them."""
    returned, budgets = attacked.returned, attacked.budgets[:, None]
    is_finite = np.isfinite(returned).all(axis=tuple(range(2, returned.ndim)))
    expand = lambda flags: flags.reshape(*flags.shape, *[1] * (returned.ndim - 2))
    points = np.where(expand(is_finite), returned, attacked.images)
    predictions, is_broken = _answers(attacked, judge, points)
    low, high = judge.bounds
    grain = ROUNDING * max(
        (abs(float(edge)) for bound in (low, high) for edge in np.ravel(bound) if np.isfinite(edge)), default=1.0
    )
    is_inside = ((points >= low - grain) & (points <= high + grain)).all(axis=tuple(range(2, returned.ndim)))
    size = np.stack([judge.norm.measure(search.astype(np.float64) - attacked.images) for search in points])
    fits = size <= budgets + np.minimum(grain + RELATIVE_ROUNDING * budgets, budgets / 1000)

    is_broken_8bit = np.zeros_like(is_broken)
    if np.isfinite(low).all() and np.isfinite(high).all():
        _, is_broken_8bit = _answers(attacked, judge, as_8bit(points, judge.bounds))
    is_invalid = ~(is_finite & is_inside)
    counts = ~is_invalid & ~attacked.is_wrong & (attacked.clean_predictions >= 0)
    success = counts & is_broken & fits
    is_lost = (predictions < 0) | ~is_finite | (attacked.clean_predictions < 0) | attacked.reported["nonfinite"]
    return attacked.reported | {
        "success": success,
        "success_8bit": counts & is_broken_8bit & fits,
        "exceeded": counts & is_broken & ~fits,
        "invalid": is_invalid,
        "size": np.where(fits, np.minimum(size, budgets), size),
        "predictions": predictions,
        "nonfinite": is_lost & ~success,
        "no_gradient": attacked.reported["no_gradient"] & ~success,
    }


def _answers(attacked: Attacked, judge: Judge, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ask the evaluated model about points [S, n, ...].

    Returns the predicted classes [S, n], -1 where logits are not finite, and whether the points are broken.
    """
    shape = searches, _ = points.shape[:2]
    logits = judge.logits_of(points.reshape(-1, *points.shape[2:]), np.tile(attacked.image_ids, searches))
    labels = np.tile(attacked.labels, (searches, *[1] * (attacked.labels.ndim - 1)))
    return classes(logits).reshape(shape), judge.is_broken(logits, labels).reshape(shape)


def classes(logits: np.ndarray) -> np.ndarray:
    """Take the predicted classes of logits [n, classes]; -1 where they are not finite.

    Of what a criterion of the user's own reads, an array of another shape, it is 0 where all numbers are finite.
    """
    is_finite = np.isfinite(logits.reshape(len(logits), -1)).all(axis=1)
    return np.where(is_finite, logits.argmax(axis=1) if logits.ndim == 2 else 0, -1)


def merge_budgets(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Take, where a search within a budget failed, the success within the next smaller one; arrays [S, n] by name."""
    arrays = {name: values.copy() for name, values in arrays.items()}
    for larger in range(1, len(arrays["success"])):
        lost = arrays["from_smaller_budget"][larger] | ~arrays["success"][larger]
        replaced = lost & arrays["success"][larger - 1]
        for name in OUTCOME:
            arrays[name][larger][replaced] = arrays[name][larger - 1][replaced]
        arrays["from_smaller_budget"][larger] |= replaced
    return arrays
