"""What an attack found, judged on the arrays that it returns."""

from typing import Any, NamedTuple

import numpy as np

from diffprog.attack._norms import NORMS, Norm


class AttackWarning(UserWarning):
    """Says that a number of an attack deserves less trust than it seems to."""


class AttackResult(NamedTuple):
    """NumPy arrays with one row per image; after an attack with K budgets at once, with an axis K in front.

    Every image is in exactly one of four groups. `initially_wrong`: misclassified, or at its target, before the
    attack. `nonfinite`: the model's logits are NaN or infinite, of the image, of the image returned for it, or at a
    point that a search tried which ended without a success.
    `success`. And `failure`, the rest. Images that are initially wrong or not finite are returned as they came.

    The model was queried about the returned arrays in a program of its own, so `success` is what a user sees who
    queries it again. For a model that draws random numbers it is the verdict of the mean probabilities over fresh
    draws.
    """

    images: np.ndarray  # float32 [n, ...] in the bounds, and within the budget if there is one, strictly
    success: np.ndarray  # bool [n]
    # bool [n], still a success after rounding to 256 levels of the bounds, as a file does, however far that goes
    success_8bit: np.ndarray
    initially_wrong: np.ndarray  # bool [n]
    nonfinite: np.ndarray  # bool [n]
    distances: dict[str, np.ndarray]  # float64 [n] by name of norm: "l0", "l1", "l2", "linf"
    epsilon: np.ndarray  # float64 [n], the budgets; infinite in a search for the minimum norm
    clean_predictions: np.ndarray  # int [n], predicted class of the original; -1 where its logits are not finite
    predictions: np.ndarray  # int [n], predicted class of the returned image; -1 likewise
    first_success: np.ndarray  # int [n], steps until the first success in its restart; -1 without one
    steps: np.ndarray  # int [n], steps taken, over all restarts
    queries: np.ndarray  # int [n], forward passes through the model that the search spent
    backward_passes: np.ndarray  # int [n]
    attack: str  # its name
    from_smaller_budget: np.ndarray | bool = False  # bool [K, n], of several budgets: taken from a smaller one
    broken_by: np.ndarray | None = None  # str [n], of several attacks, which one succeeded; "" where none did
    # bool [n], failures that were not searched for: no gradient was other than 0 or NaN, or of an attack by decisions
    no_gradient: np.ndarray | bool = False  # alone, there was no adversarial point to start from

    @property
    def failure(self) -> np.ndarray:
        """Tell which images the model classified rightly to the end: bool [n]."""
        return ~(self.success | self.initially_wrong | self.nonfinite)

    @property
    def clean_accuracy(self) -> np.ndarray | float:
        """Compute the fraction of all images that were right before the attack."""
        return _scalar(np.mean(~self.initially_wrong & (self.clean_predictions >= 0), axis=-1))

    @property
    def robust_accuracy(self) -> np.ndarray | float:
        """Compute the fraction of all images that withstood the attack; one number per budget."""
        return _scalar(self.failure.mean(axis=-1))

    @property
    def success_rate(self) -> np.ndarray | float:
        """Compute the fraction of successes among the images that could be attacked; NaN if there are none."""
        num_attacked = (self.success | self.failure).sum(axis=-1)
        return _scalar(np.where(num_attacked > 0, self.success.sum(axis=-1) / np.maximum(num_attacked, 1), np.nan))


def _scalar(value):
    return float(value) if np.ndim(value) == 0 else value


OUTCOME = (
    "images",
    "success",
    "success_8bit",
    "nonfinite",
    "predictions",
    "first_success",
    "no_gradient",
)  # replaced together
COSTS = ("steps", "queries", "backward_passes")


def merge_budgets(result: AttackResult, num_budgets: int) -> AttackResult:
    """Fold the rows of searches with increasing budgets into an axis of budgets.

    Where a search failed and the search with the next smaller budget did not, its outcome is taken.
    """
    unfold = lambda leaf: leaf.reshape(num_budgets, -1, *leaf.shape[1:])
    fields = {name: unfold(value) for name, value in result._asdict().items() if isinstance(value, np.ndarray)}
    sizes = {name: unfold(size) for name, size in result.distances.items()}
    from_smaller_budget = np.zeros_like(fields["success"])
    for larger in range(1, num_budgets):
        replaced = from_smaller_budget[larger] = ~fields["success"][larger] & fields["success"][larger - 1]
        for value in (*(fields[name] for name in OUTCOME), *sizes.values()):
            value[larger][replaced] = value[larger - 1][replaced]
    return result._replace(**fields, distances=sizes, from_smaller_budget=from_smaller_budget)


def best_of(first: AttackResult, second: AttackResult) -> AttackResult:
    """Combine two attacks on the same images: the second's outcome where only it succeeded, and the costs of both."""
    replaced = second.success & ~first.success

    def choose(one, other):
        return np.where(replaced.reshape(*replaced.shape, *[1] * (one.ndim - replaced.ndim)), other, one)

    chosen = {name: choose(getattr(first, name), getattr(second, name)) for name in (*OUTCOME, "broken_by")}
    chosen["from_smaller_budget"] = np.where(replaced, second.from_smaller_budget, first.from_smaller_budget)
    sizes = {name: choose(size, second.distances[name]) for name, size in first.distances.items()}
    open_rows = ~(first.success | second.success)  # of these each attack tells what it met
    chosen["nonfinite"] = np.where(open_rows, first.nonfinite | second.nonfinite, chosen["nonfinite"])
    chosen["no_gradient"] = first.no_gradient & second.no_gradient & open_rows
    costs = {name: getattr(first, name) + getattr(second, name) for name in COSTS}
    return first._replace(**chosen, **costs, distances=sizes)


def at_budgets(result: AttackResult, norm: Norm, budgets: np.ndarray) -> AttackResult:
    """Read a search for the minimum norm as attacks with `budgets`, (n,) or (K, n)."""

    def repeat(leaf):
        return np.broadcast_to(leaf, (*budgets.shape[:-1], *leaf.shape)).copy()

    fields = {name: repeat(value) for name, value in result._asdict().items() if isinstance(value, np.ndarray)}
    sizes = {name: repeat(size) for name, size in result.distances.items()}
    is_small = sizes[norm.name] <= budgets
    fields.update({name: fields[name] & is_small for name in ("success", "success_8bit")}, epsilon=budgets)
    return result._replace(**fields, distances=sizes)


def distances(images: np.ndarray, originals: np.ndarray) -> dict[str, np.ndarray]:
    """Measure perturbations in every norm: float64 [n] each."""
    return {name: norm.measure(np.asarray(images, np.float64) - originals) for name, norm in NORMS.items()}


def as_8bit(images: np.ndarray, bounds: tuple[Any, Any] = (0.0, 1.0)) -> np.ndarray:
    """Round the images to 256 levels, as a file of bytes holds them; as they are where there are no bounds."""
    low, high = (np.asarray(bound, np.float64) for bound in bounds)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return np.asarray(images, np.float32)
    levels = np.rint((np.asarray(images, np.float64) - low) / (high - low) * 255)
    return (low + levels / 255 * (high - low)).astype(np.float32)
