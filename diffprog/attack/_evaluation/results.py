"""What attacks did to the images of a data set, and the numbers that follow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

NOT_FINITE, NO_CLASS = -1, -2  # in place of a class
GROUPS = ("misclassified", "success", "nonfinite", "failure")


class AttackRecord(NamedTuple):
    """What one attack did to n images, in NumPy arrays with the images on the last axis.

    S is the number of searches: of the budgets, or 1 of a search for the smallest perturbation. Each image is in
    exactly one of `GROUPS`, at each budget. What decides was measured by the evaluation on the returned images, with
    the model that it evaluates. A perturbation may exceed its budget by the rounding of float32.
    """

    success: np.ndarray  # bool [S, n], what was returned is misclassified, within its budget and the bounds
    success_8bit: np.ndarray  # bool [S, n], and still misclassified after rounding to 256 levels, however far that goes
    exceeded: np.ndarray  # bool [S, n], misclassified, but larger than its budget, and so no success
    invalid: np.ndarray  # bool [S, n], what was returned is not finite or leaves the bounds, and so no success
    from_smaller_budget: np.ndarray  # bool [S, n], the search failed, and the success is that of a smaller budget
    size: np.ndarray  # float64 [S, n], of the perturbation, in the evaluation's norm
    predictions: np.ndarray  # int64 [S, n], class of what was returned; -1 where its logits are not finite
    nonfinite: np.ndarray  # bool [S, n], logits of the image, of what was returned or tried, that are not finite
    no_gradient: np.ndarray  # bool [S, n], failures to which no gradient led, as the attack says
    initially_wrong: np.ndarray  # bool [n], misclassified before the attack
    first_success: np.ndarray  # int64 [S, n], steps until the first success; -1 without one
    steps: np.ndarray  # int64 [S, n]
    queries: np.ndarray  # int64 [S, n], forward passes
    backward_passes: np.ndarray  # int64 [S, n]
    seconds: np.ndarray  # float64 [batches], without compilation
    compile_seconds: np.ndarray  # float64 [batches]

    @property
    def minimum_norm(self) -> np.ndarray:
        """Size of each image's smallest successful perturbation, float64 [n].

        0 where the image was misclassified from the start, infinite without a success. An image is broken at every
        budget from here on.
        """
        return np.where(self.initially_wrong, 0.0, np.min(np.where(self.success, self.size, np.inf), axis=0))

    @property
    def in_8bit(self) -> "AttackRecord":
        """The record of the successes that files of 8-bit images keep."""
        return self._replace(success=self.success_8bit)

    def groups(self, epsilons: Sequence[float] | np.ndarray) -> dict[str, np.ndarray]:
        """Sort the images into groups at any budgets.

        An image for which a search met logits that are not finite is a failure at none of its budgets.

        Args:
            epsilons: Budgets [K].

        Returns:
            bool [K, n] by name of `GROUPS`.
        """
        budgets = np.asarray(epsilons)[:, None]
        smallest = self.minimum_norm
        success = np.isfinite(smallest) & (smallest <= budgets) & ~self.initially_wrong
        nonfinite = self.nonfinite.any(axis=0) & ~success & ~self.initially_wrong
        misclassified = np.broadcast_to(self.initially_wrong, success.shape)
        failure = ~(misclassified | success | nonfinite)
        return dict(zip(GROUPS, (misclassified, success, nonfinite, failure), strict=True))


def best_search(success: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Find the search with each image's smallest success, or the last one without a success: int [n] of [S, n]."""
    size = np.where(success, size, np.inf)
    return np.where(success.any(axis=0), np.argmin(size, axis=0), len(size) - 1)


REPORTED: dict[str, Any] = {"from_smaller_budget": False, "nonfinite": False, "no_gradient": False, "first_success": -1}
REPORTED |= {"steps": 0, "queries": 0, "backward_passes": 0}  # what an attack says of itself, if it says nothing else


class WorstCase(NamedTuple):
    """An image that the model classifies rightly, and the smallest perturbation that broke it."""

    image_id: int
    attack: str
    label: int
    prediction: int  # predicted class of the perturbed image
    size: float  # of the perturbation, in the evaluation's norm
    original: np.ndarray  # float32
    adversarial: np.ndarray


WORST_CASE_FIELDS = ("worst_search", *(f"worst_{name}" for name in WorstCase._fields if name != "attack"))


def worst_cases_of(
    arrays: dict[str, np.ndarray],
    image_ids: np.ndarray,
    labels: np.ndarray,
    images: np.ndarray,
    returned: np.ndarray,
    limits: np.ndarray,
    max_worst_cases: int,
) -> dict[str, np.ndarray]:
    """Choose, for each search, the images that were broken by the smallest perturbations, as arrays for a file.

    Args:
        arrays: Of an attack on the images, [S, n] by name.
        image_ids: [n].
        labels: [n].
        images: The original images [n, ...].
        returned: What was returned for them [S, n, ...].
        limits: Only perturbations below these sizes are chosen, [S]: the largest among the worst cases of the images
            before, which come first where sizes are equal; infinite as long as these are too few.
        max_worst_cases: How many to choose at most.
    """
    rows = []
    for search, limit in enumerate(limits):
        size = np.where(arrays["success"][search], arrays["size"][search], np.inf)
        order = np.lexsort((image_ids, size))
        rows += [(search, image) for image in order[(size[order] > 0) & (size[order] < limit)][:max_worst_cases]]
    which, chosen = np.array(rows, int).reshape(-1, 2).T
    outcomes = [arrays[name][which, chosen] for name in ("predictions", "size")]
    labels = labels if labels.ndim == 1 and labels.dtype.kind in "iu" else np.full(len(labels), NO_CLASS)
    values = [which, image_ids[chosen], labels[chosen], *outcomes, images[chosen], returned[which, chosen]]
    return dict(zip(WORST_CASE_FIELDS, values, strict=True))


def gather_worst_cases(
    files: Iterable[tuple[str, dict[str, np.ndarray], np.ndarray]], max_worst_cases: int
) -> tuple[WorstCase, ...]:
    """Choose the worst cases of all, each image with the attack that came closest.

    Args:
        files: For each file the attack, the arrays of its worst cases, and which of its results count: rows (search,
            image id).
        max_worst_cases: How many to choose at most.
    """
    smallest: dict[int, WorstCase] = {}
    for attack, arrays, counted in files:
        counts = set(map(tuple, counted.tolist()))
        for search, *values in zip(*(arrays[name] for name in WORST_CASE_FIELDS), strict=True):
            image_id, label, prediction, size = (value.item() for value in values[:4])
            better = image_id not in smallest or size < smallest[image_id].size
            if better and (int(search), image_id) in counts:
                smallest[image_id] = WorstCase(image_id, attack, label, prediction, size, *values[4:])
    return tuple(sorted(smallest.values(), key=lambda case: (case.size, case.image_id))[:max_worst_cases])


class RobustnessWarning(NamedTuple):
    """A sign that robustness is only apparent, which a reader of the numbers should know.

    Attributes:
        code: A short name of the kind of warning.
        message: What was seen, why it matters and what to do.
    """

    code: str
    message: str


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Clean and robust accuracy of a model on n images, at K budgets.

    An image is broken at a budget if some attack found a success of at most that size. So accuracy never rises with the
    budget, and a search for the smallest perturbation counts at every budget.

    Attributes:
        norm: Name of the norm.
        epsilons: Budgets, float64 [K], increasing.
        labels: Classes, int [n].
        clean_predictions: Predicted classes, int [n]; -1 where the logits are not finite.
        records: What each attack did, by its name.
        worst_cases: The images that the smallest perturbations broke, these first.
        warnings: Signs that the numbers are not what they seem.
        settings: Of the attacks, the key, the norm and the budgets, as JSON has them.
        versions: Of diffprog, JAX and Python.
        bounds: Smallest and largest value of a pixel.
        class_names: Names of the classes; empty if unknown.
    """

    norm: str
    epsilons: np.ndarray
    labels: np.ndarray
    clean_predictions: np.ndarray
    records: dict[str, AttackRecord]
    worst_cases: tuple[WorstCase, ...]
    warnings: tuple[RobustnessWarning, ...]
    settings: dict[str, Any]
    versions: dict[str, str]
    bounds: tuple[float, float] = (0.0, 1.0)
    class_names: tuple[str, ...] = field(default=(), repr=False)

    @property
    def initially_correct(self) -> np.ndarray:
        """Whether each image is classified as labeled, or meets no criterion, before any attack, bool [n]."""
        is_wrong = next(iter(self.records.values())).initially_wrong
        return (self.clean_predictions >= 0) & ~is_wrong

    @property
    def clean_accuracy(self) -> float:
        """Part of the images that are classified as labeled before any attack."""
        return float(self.initially_correct.mean())

    def withstood(self, attack: str) -> np.ndarray:
        """Tell which images are classified as labeled before and after an attack.

        Args:
            attack: Name of the attack.

        Returns:
            bool [K, n].
        """
        return self.records[attack].groups(self.epsilons)["failure"]

    def accuracy(self, attack: str) -> np.ndarray:
        """Compute the accuracy under one attack.

        Args:
            attack: Name of the attack.

        Returns:
            Part of all images that withstood it at each budget, float64 [K].
        """
        return self.withstood(attack).mean(axis=1)

    def accuracy_8bit(self, attack: str) -> np.ndarray:
        """Compute the accuracy under one attack whose images go through files of 8 bits.

        Args:
            attack: Name of the attack.

        Returns:
            Part of all images that withstood it at each budget, float64 [K].
        """
        return self.records[attack].in_8bit.groups(self.epsilons)["failure"].mean(axis=1)

    def robust_accuracy(self, attacks: Iterable[str] | None = None) -> np.ndarray:
        """Compute the accuracy in the worst case over attacks.

        Args:
            attacks: Names of attacks; None for all.

        Returns:
            Part of all images that withstood each of them at each budget, float64 [K].
        """
        standing = np.stack([self.withstood(attack) for attack in (attacks or self.records)])
        return (self.initially_correct & standing.all(axis=0)).mean(axis=1)

    @property
    def minimum_norm(self) -> np.ndarray:
        """Size of the smallest perturbation that broke each image, float64 [n].

        0 where the image was misclassified from the start, infinite where nothing broke it.
        """
        smallest = np.min([record.minimum_norm for record in self.records.values()], axis=0)
        return np.where(self.initially_correct, smallest, 0.0)

    @property
    def broken_by(self) -> list[str | None]:
        """The attack that found each image's smallest perturbation.

        None where the image was misclassified from the start, or where nothing broke it.
        """
        names, sizes = list(self.records), [record.minimum_norm for record in self.records.values()]
        broken = self.initially_correct & np.isfinite(self.minimum_norm)
        return [names[best] if yes else None for best, yes in zip(np.argmin(sizes, axis=0), broken, strict=True)]

    def counts(self, attack: str) -> dict[str, list[int]]:
        """Count the images in each group, at each budget.

        Args:
            attack: Name of the attack.

        Returns:
            For "misclassified" (before the attack), "success", "nonfinite" and "failure" a count per budget. The four
            sum to n.
        """
        groups = self.records[attack].groups(self.epsilons)
        return {name: group.sum(axis=1).tolist() for name, group in groups.items()}

    def class_name(self, label: int) -> str:
        """Name a class.

        Args:
            label: Its index; -1 for logits that are not finite, -2 for a label that is no class.

        Returns:
            Its name, up to the first comma; its index where there is none.
        """
        if label < 0:
            return "not finite" if label == NOT_FINITE else "what its label asks for"
        return self.class_names[label].split(",")[0] if label < len(self.class_names) else str(label)

    def __str__(self) -> str:
        from diffprog.attack._evaluation.report.table import evaluation_text

        return evaluation_text(self)

    def __repr__(self) -> str:
        return f"<Evaluation of {len(self.labels)} images by {', '.join(self.records)} in {self.norm}>"

    def write(self, directory: str | Path) -> None:
        """Write `report.json`, `report.txt`, `report.html` and, where matplotlib is installed, `curves.png`.

        Args:
            directory: Where they go; it is made if it is missing.
        """
        from diffprog.attack._evaluation.report.write import write_report

        write_report(self, directory)
