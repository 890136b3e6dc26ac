"""An evaluation in numbers: rows of text that the table, the page and the JSON file share."""

from typing import NamedTuple

import numpy as np

from diffprog._util.tables import markdown_table, text_table
from diffprog.attribute._evaluation.results import AttributionEvaluation, Average

COSTS = ("gap", "runs", "seconds")


class Row(NamedTuple):
    """What the table says of a method."""

    name: str
    measures: list[str]  # mean and standard error
    are_best: list[bool]
    costs: list[str]  # of COSTS


def rows(evaluation: AttributionEvaluation) -> list[Row]:
    """Tell of each method."""
    best = {measure: _best_mean(evaluation, measure) for measure in evaluation.measures}
    found = []
    for name, record in evaluation.methods.items():
        gap = record.relative_gap
        costs = [
            "" if np.isnan(gap) else f"{gap:.1%}" if gap >= 5e-4 else f"{gap:.0e}",
            f"{record.evaluations.mean():.0f}",
            f"{record.seconds / len(record.score):.2f}",
        ]
        cells = [average_text(evaluation.average(name, measure)) for measure in evaluation.measures]
        means = [evaluation.average(name, measure).mean for measure in evaluation.measures]
        found.append(Row(name, cells, [best[m] == mean for m, mean in zip(best, means, strict=True)], costs))
    return found


def _best_mean(evaluation: AttributionEvaluation, measure: str) -> float | None:
    """Find the mean of the best methods; None if no method has one, or all are alike."""
    means = {evaluation.average(name, measure).mean for name in evaluation.methods}
    best = evaluation.best(measure)
    return None if best is None or len(means) == 1 else evaluation.average(best, measure).mean


def average_text(average: Average) -> str:
    """Write a mean with its standard error."""
    if np.isnan(average.mean):
        return "-"
    error = "" if np.isnan(average.error) else f" ± {average.error:.{_decimals(average.mean)}f}"
    return f"{average.mean:.{_decimals(average.mean)}f}{error}"


def _decimals(value: float) -> int:
    return 3 if abs(value) < 1 else 2 if abs(value) < 100 else 0


def heads(evaluation: AttributionEvaluation) -> list[str]:
    """Name the measures, with an arrow to where they are good."""
    arrow = lambda measure: "↑" if evaluation.is_high_good(measure) else "↓"
    return [f"{measure} {arrow(measure)}" for measure in evaluation.measures]


def headline(evaluation: AttributionEvaluation) -> str:
    """Say how many images there are, and how many the model is right about."""
    count = len(evaluation.labels)
    right = int((evaluation.predictions == evaluation.labels).sum())
    return f"{count} image{'s' * (count != 1)}; the model answers with the class that is explained for {right}."


def notes(evaluation: AttributionEvaluation) -> str:
    """Explain the columns."""
    missing = {
        (measure, method): evaluation.average(method, measure).missing
        for measure in evaluation.measures
        for method in evaluation.methods
    }
    told = "; ".join(f"{measure} of {method}: {number}" for (measure, method), number in missing.items() if number)
    return (
        "Means over the images, ± the standard error of the mean; ↑: high is good, ↓: low is good. gap: what is "
        "missing to completeness, median over the images, of methods with an axiom of it. runs, seconds: of the "
        "model and of the method for each image, without compiling."
        + (f" Images without a value: {told}." if told else "")
    )


def markdown(evaluation: AttributionEvaluation) -> str:
    """Write the table in Markdown, the best mean of each measure in bold."""
    bold = lambda text, is_best: f"**{text}**" if is_best else text
    cells = [[row.name, *map(bold, row.measures, row.are_best), *row.costs] for row in rows(evaluation)]
    return markdown_table(["method", *heads(evaluation), *COSTS], cells)


def evaluation_text(evaluation: AttributionEvaluation) -> str:
    """Write the whole evaluation as lines of text, the best mean of each measure with a star."""
    starred = lambda text, is_best: f"{text} *" if is_best else text
    cells = [[row.name, *map(starred, row.measures, row.are_best), *row.costs] for row in rows(evaluation)]
    table = text_table([["method", *heads(evaluation), *COSTS], *cells], align="<>")
    rule = "-" * max(map(len, table))
    return "\n".join([headline(evaluation), "", table[0], rule, *table[1:], "", notes(evaluation)])
