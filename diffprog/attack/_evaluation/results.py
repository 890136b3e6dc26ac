"""What an evaluation found, and the numbers that follow from it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffprog.attack._evaluation.caution import Caution
from diffprog.attack._evaluation.hardest import Hard
from diffprog.attack._evaluation.outcome import Outcome


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Clean and robust accuracy of a model on n images, at K budgets.

    An image is broken at a budget if any success that was found is of at most that size: so accuracy never rises with
    the budget, and a search for the smallest perturbation counts at every budget.
    """

    norm: str
    epsilons: np.ndarray  # float64 [K], increasing
    labels: np.ndarray  # int [n]
    clean_predictions: np.ndarray  # int [n], predicted class; -1 where the logits are not finite
    outcomes: dict[str, Outcome]  # by the attack's name
    hardest: tuple[Hard, ...]  # broken by the smallest perturbations; these first
    warnings: tuple[Caution, ...]
    settings: dict[str, Any]  # of every attack, the key, the norm and the budgets, as JSON has them
    versions: dict[str, str]
    bounds: tuple[float, float] = (0.0, 1.0)
    names: tuple[str, ...] = field(default=(), repr=False)  # of the classes; empty if not known

    @property
    def right(self) -> np.ndarray:
        """bool [n]: classified as labeled before any attack."""
        return self.clean_predictions == self.labels

    @property
    def clean_accuracy(self) -> float:
        return float(self.right.mean())

    def withstood(self, attack: str) -> np.ndarray:
        """bool [K, n]: right before the attack and after it."""
        return self.outcomes[attack].groups(self.epsilons)["failure"]

    def accuracy(self, attack: str) -> np.ndarray:
        """float64 [K]: the part of all images that withstood the attack at each budget."""
        return self.withstood(attack).mean(axis=1)

    def accuracy_8bit(self, attack: str) -> np.ndarray:
        """float64 [K]: the same if the perturbed images go through files of 8 bits."""
        outcome = self.outcomes[attack]._replace(success=self.outcomes[attack].success_8bit)
        return outcome.groups(self.epsilons)["failure"].mean(axis=1)

    def worst_case(self, attacks=None) -> np.ndarray:
        """float64 [K]: the part of all images that withstood every attack, or all those named."""
        standing = np.stack([self.withstood(attack) for attack in (attacks or self.outcomes)])
        return (self.right & standing.all(axis=0)).mean(axis=1)

    @property
    def smallest(self) -> np.ndarray:
        """float64 [n]: the size of the smallest perturbation that broke each image; 0 where it was wrong as it came,
        infinite where nothing broke it."""
        found = np.min([outcome.smallest for outcome in self.outcomes.values()], axis=0)
        return np.where(self.right, found, 0.0)

    @property
    def broken_by(self) -> list[str | None]:
        """The attack that found it; None where the image was wrong as it came, or nothing broke it."""
        names, sizes = list(self.outcomes), [outcome.smallest for outcome in self.outcomes.values()]
        which, broken = np.argmin(sizes, axis=0), self.right & np.isfinite(self.smallest)
        return [names[at] if yes else None for at, yes in zip(which, broken, strict=True)]

    def counts(self, attack: str) -> dict[str, list[int]]:
        """Numbers of images at each budget in the four groups, which sum to n."""
        groups = self.outcomes[attack].groups(self.epsilons)
        return {name: group.sum(axis=1).tolist() for name, group in groups.items()}

    def class_name(self, label: int) -> str:
        """The name of a class, or its number."""
        if label < 0:
            return "not finite"
        return self.names[label].split(",")[0] if label < len(self.names) else str(label)

    def __str__(self) -> str:
        from diffprog.attack._evaluation.report.table import text_table

        return text_table(self)

    def __repr__(self) -> str:
        return f"<Evaluation of {len(self.labels)} images by {', '.join(self.outcomes)} in {self.norm}>"

    def write(self, directory) -> None:
        """Write `report.json`, `report.txt`, `report.html` and, where matplotlib is installed, `curves.png`."""
        from diffprog.attack._evaluation.report.write import write_report

        write_report(self, directory)
