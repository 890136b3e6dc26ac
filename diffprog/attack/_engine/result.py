"""What an attack found, judged on the arrays that it returns."""

from typing import NamedTuple

import numpy as np

from diffprog.attack._norms import NORMS


class AttackResult(NamedTuple):
    """NumPy arrays with one row per image; after a search of K budgets at once, with an axis K in front.

    Every image is in exactly one of four groups: `initially_wrong` (the attack had nothing to do: misclassified, or at
    its target, before it began), `nonfinite` (the model's logits are NaN or infinite, of the image or of what became of
    it), `success`, and failures, the rest. What is `initially_wrong` or `nonfinite` from the start is returned as
    it came.

    The model was asked about the returned arrays in a program of its own, so `success` is what a user sees who asks it
    again. For a network that draws, it is the verdict of the mean probabilities over fresh draws.
    """

    images: np.ndarray  # float32 [n, ...] in the bounds, and within the budget if there is one, strictly
    success: np.ndarray  # bool [n]
    success_8bit: np.ndarray  # bool [n], still a success after rounding to 256 levels, as a file does
    initially_wrong: np.ndarray  # bool [n]
    nonfinite: np.ndarray  # bool [n]
    distances: dict[str, np.ndarray]  # float64 [n] by name of norm: "l0", "l1", "l2", "linf"
    epsilon: np.ndarray  # float64 [n], the budgets; infinite in a search for the smallest perturbation
    clean_predictions: np.ndarray  # int [n], predicted class of the original; -1 where its logits are not finite
    predictions: np.ndarray  # int [n], predicted class of the returned image, likewise
    first_success: np.ndarray  # int [n], steps until the first success in its restart; -1 without one
    steps: np.ndarray  # int [n], steps taken, over all restarts
    queries: np.ndarray  # int [n], forward passes through the model that the search spent
    backward_passes: np.ndarray  # int [n], backward passes
    attack: str  # its name
    from_smaller_budget: np.ndarray | bool = (
        False  # bool [K, n], of several budgets: what is returned is of a smaller one
    )
    broken_by: np.ndarray | None = None  # str [n], of several attacks, which one succeeded; "" where none did

    @property
    def failure(self) -> np.ndarray:
        """bool [n]: the model withstood the attack."""
        return ~(self.success | self.initially_wrong | self.nonfinite)

    @property
    def clean_accuracy(self) -> np.ndarray | float:
        """Part of all images that were right before the attack (untargeted: classified as their label)."""
        return _number(np.mean(~self.initially_wrong & (self.clean_predictions >= 0), axis=-1))

    @property
    def robust_accuracy(self) -> np.ndarray | float:
        """Part of all images that withstood it; one number per budget."""
        return _number(self.failure.mean(axis=-1))

    @property
    def success_rate(self) -> np.ndarray | float:
        """Successes among the images that could be attacked: those neither `initially_wrong` there nor `nonfinite`."""
        attacked = (self.success | self.failure).sum(axis=-1)
        return _number(np.where(attacked > 0, self.success.sum(axis=-1) / np.maximum(attacked, 1), np.nan))


def _number(value):
    return float(value) if np.ndim(value) == 0 else value


def monotone(result, budgets):
    """The result of `budgets` searches of increasing budget, one after the other in every field, with an axis of
    budgets; where a search failed and one of a smaller budget did not, its image is taken."""

    def unfold(leaf):
        return leaf.reshape(budgets, -1, *leaf.shape[1:])

    fields = {name: unfold(value) for name, value in result._asdict().items() if isinstance(value, np.ndarray)}
    sizes = {name: unfold(size) for name, size in result.distances.items()}
    carried = [
        fields[name] for name in ("images", "success", "success_8bit", "nonfinite", "predictions", "first_success")
    ]
    carried += sizes.values()
    from_smaller_budget = np.zeros_like(fields["success"])
    for larger in range(1, budgets):
        weaker = from_smaller_budget[larger] = ~fields["success"][larger] & fields["success"][larger - 1]
        for value in carried:
            value[larger][weaker] = value[larger - 1][weaker]
    return result._replace(**fields, distances=sizes, from_smaller_budget=from_smaller_budget)


def either(first, second):
    """Two attacks on the same images: what the first did, but what the second did where only it succeeded. Steps and
    passes are of both."""
    take = second.success & ~first.success

    def choose(one, other):
        return np.where(take.reshape(*take.shape, *[1] * (one.ndim - take.ndim)), other, one)

    chosen = {
        name: choose(getattr(first, name), getattr(second, name))
        for name in ("images", "success", "success_8bit", "nonfinite", "predictions", "first_success", "broken_by")
    }
    chosen["from_smaller_budget"] = np.where(take, second.from_smaller_budget, first.from_smaller_budget)
    sizes = {name: choose(size, second.distances[name]) for name, size in first.distances.items()}
    spent = {name: getattr(first, name) + getattr(second, name) for name in ("steps", "queries", "backward_passes")}
    return first._replace(**chosen, **spent, distances=sizes)


def within(result, norm, budgets):
    """The result of a search for the smallest perturbation as that of attacks with `budgets`, [n] or [K, n]."""

    def repeat(leaf):
        return np.broadcast_to(leaf, (*budgets.shape[:-1], *leaf.shape)).copy()

    fields = {name: repeat(value) for name, value in result._asdict().items() if isinstance(value, np.ndarray)}
    sizes = {name: repeat(size) for name, size in result.distances.items()}
    small = sizes[norm.name] <= budgets
    fields.update({name: fields[name] & small for name in ("success", "success_8bit")}, epsilon=budgets)
    return result._replace(**fields, distances=sizes)


def distances(found, originals):
    """float64 [n] per norm."""
    return {name: norm.measure(np.asarray(found, np.float64) - originals) for name, norm in NORMS.items()}


def as_8bit(images, bounds=(0.0, 1.0)):
    """The images as a file of bytes holds them: rounded, not cut, to 256 levels."""
    low, high = bounds
    levels = np.rint((np.asarray(images, np.float64) - low) / (high - low) * 255)
    return (low + levels / 255 * (high - low)).astype(np.float32)
