"""What an evaluation of attribution methods found."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffprog.attribute.measures import MEASURES, Measured


class MethodRecord(NamedTuple):
    """What one method did on n images, and what the measures say of it.

    Attributes:
      score: float64 (n,), what is explained.
      baseline_score: (n,), NaN for a method without a baseline.
      gap: (n,), what is missing to completeness; NaN where no axiom gives the sum.
      evaluations: int (n,), runs of the model for each image.
      seconds: of all images, without compilation.
      compile_seconds: of compilation.
      measured: from a measure's name in the evaluation to what it says.
      maps: float32 (m, height, width), of the first images; channels are added up.
    """

    score: np.ndarray
    baseline_score: np.ndarray
    gap: np.ndarray
    evaluations: np.ndarray
    seconds: float
    compile_seconds: float
    measured: dict[str, Measured]
    maps: np.ndarray

    @property
    def relative_gap(self) -> float:
        """Median of |gap| / |score - baseline_score| over the images; NaN where there is none."""
        explained = np.abs(self.score - self.baseline_score)
        known = np.isfinite(self.gap) & (explained > 0)
        return float(np.median(np.abs(self.gap[known]) / explained[known])) if known.any() else float("nan")


class Average(NamedTuple):
    """A mean over images.

    Attributes:
      mean: over those that have a number.
      error: standard error of the mean over images; NaN of fewer than two.
      missing: images without a number, as a correlation of what does not vary.
    """

    mean: float
    error: float
    missing: int


@dataclass(frozen=True, eq=False)
class AttributionEvaluation:
    """Measures of attribution methods on n images.

    Attributes:
      labels: int (n,), the classes that are explained.
      predictions: int (n,), the model's; -1 where the output is no row of logits.
      probabilities: float64 (n,), of the label, by softmax; NaN likewise.
      methods: what each method did, by its name.
      measures: from the name of a measure in the evaluation to its function's.
      images: float32 (m, ...), the first images.
      settings: of methods and measures, as JSON has them.
      versions: of diffprog, JAX and Python.
      class_names: names of the classes; empty if unknown.
    """

    labels: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray
    methods: dict[str, MethodRecord]
    measures: dict[str, str]
    images: np.ndarray
    settings: dict[str, Any]
    versions: dict[str, str]
    class_names: tuple[str, ...] = field(default=(), repr=False)

    def average(self, method: str, measure: str) -> Average:
        """Average a measure of a method over the images.

        Args:
          method: its name in the evaluation.
          measure: likewise.

        Returns:
          Mean, standard error, and the number of images without a value.
        """
        values = self.methods[method].measured[measure].value
        known = values[np.isfinite(values)]
        mean = float(known.mean()) if len(known) else float("nan")
        error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else float("nan")
        return Average(mean, error, len(values) - len(known))

    def is_high_good(self, measure: str) -> bool:
        """Say whether a large value of a measure speaks for a method.

        Args:
          measure: its name in the evaluation.

        Returns:
          Whether it does; a ROAD of one order that removes the largest credit first is low for a good method.
        """
        if self.measures[measure] == "road":
            order = self.settings["measures"][measure]["arguments"].get("order", "both")
            return order != "most"
        return MEASURES[self.measures[measure]].better == "high"

    def best(self, measure: str) -> str | None:
        """Name the method with the best mean; None if no method has one.

        Args:
          measure: its name in the evaluation.

        Returns:
          The method's name.
        """
        means = {name: self.average(name, measure).mean for name in self.methods}
        known = {name: mean for name, mean in means.items() if np.isfinite(mean)}
        if not known:
            return None
        return (max if self.is_high_good(measure) else min)(known, key=lambda name: known[name])

    def class_name(self, label: int) -> str:
        """Name a class.

        Args:
          label: its index.

        Returns:
          Its name, up to the first comma; its index where there is none.
        """
        return self.class_names[label].split(",")[0] if 0 <= label < len(self.class_names) else str(label)

    def markdown(self) -> str:
        """Write the table in Markdown.

        Returns:
          A row for each method, a column for each measure: the mean and its standard error over the images.
        """
        from diffprog.attribute._evaluation.report.table import markdown

        return markdown(self)

    def __str__(self) -> str:
        from diffprog.attribute._evaluation.report.table import evaluation_text

        return evaluation_text(self)

    def __repr__(self) -> str:
        return f"<AttributionEvaluation of {', '.join(self.methods)} on {len(self.labels)} images>"

    def write(self, directory: str | Path) -> None:
        """Write `report.json`, `report.md` and `report.html`.

        Args:
          directory: where they go; it is made if it is missing.
        """
        from diffprog.attribute._evaluation.report.write import write_report

        write_report(self, directory)
