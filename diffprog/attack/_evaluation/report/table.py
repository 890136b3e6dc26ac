"""An evaluation in numbers: rows of text that the table, the page and the JSON file share."""

from typing import NamedTuple

import numpy as np

from diffprog._util.tables import text_table
from diffprog.attack._evaluation.results import Evaluation

MEASURES = ("8-bit", "median", "gradients", "queries", "seconds", "compiling")


class Row(NamedTuple):
    """What the table says of an attack, or of the worst case over attacks."""

    name: str
    accuracies: list[str]  # at each budget
    measures: list[str]  # of MEASURES; "" where there is none


def budget_text(evaluation: Evaluation, epsilon: float) -> str:
    """Write a budget as people do: 8/255 where all are such levels of L-infinity, else 0.5."""
    levels = evaluation.epsilons * 255
    pixels = evaluation.norm == "linf" and tuple(evaluation.bounds) == (0.0, 1.0)
    if pixels and np.all(np.abs(levels - levels.round()) < 1e-6):
        return f"{round(epsilon * 255)}/255"
    return f"{epsilon:.4g}"


def norm_text(norm: str) -> str:
    """Write a norm's name as people do."""
    return {"linf": "L∞"}.get(norm, norm.upper())


def budget_texts(evaluation: Evaluation) -> list[str]:
    """Write all budgets."""
    return [budget_text(evaluation, epsilon) for epsilon in evaluation.epsilons]


def rows(evaluation: Evaluation) -> list[Row]:
    """Tell of each attack, and of the worst case last."""
    images = max(len(evaluation.labels), 1)
    correct = evaluation.initially_correct
    attacks = [
        Row(
            name,
            [percent(value) for value in evaluation.accuracy(name)],
            [
                percent(evaluation.accuracy_8bit(name)[-1]),
                size_text(median(record.minimum_norm[correct])),
                f"{record.backward_passes.sum() / images:.0f}",
                f"{record.queries.sum() / images:.0f}",
                f"{record.seconds.sum():.1f}",
                f"{record.compile_seconds.sum():.1f}",
            ],
        )
        for name, record in evaluation.records.items()
    ]
    worst = [percent(value) for value in evaluation.robust_accuracy()]
    return [*attacks, Row("worst case", worst, ["", size_text(median(evaluation.minimum_norm[correct])), *[""] * 4])]


def headline(evaluation: Evaluation) -> str:
    """Say the clean accuracy, and in which norm the budgets are."""
    return (
        f"{percent(evaluation.clean_accuracy)} % of {len(evaluation.labels)} images are classified correctly without "
        f"an attack. Budgets are in {norm_text(evaluation.norm)}."
    )


def notes(evaluation: Evaluation) -> str:
    """Explain the columns."""
    return (
        "Accuracy in % under each attack and budget; worst case: under all of them together. 8-bit: at "
        f"{budget_texts(evaluation)[-1]}, when the perturbed images are saved with 8 bits. median: size of the "
        "smallest perturbation that breaks an image, among those classified correctly without an attack. gradients, "
        "queries: backward and forward passes per image. seconds: of the attack, without compiling."
    )


def evaluation_text(evaluation: Evaluation) -> str:
    """Write the whole evaluation as lines of text."""
    table = text_table(
        [
            ["attack", *budget_texts(evaluation), *MEASURES],
            *([row.name, *row.accuracies, *row.measures] for row in rows(evaluation)),
        ],
        align="<>",
    )
    rule = "-" * max(map(len, table))
    warnings = [f"{warning.code}: {warning.message}" for warning in evaluation.warnings]
    lines = [headline(evaluation), "", table[0], rule, *table[1:-1], rule, table[-1], "", notes(evaluation)]
    return "\n".join([*lines, *(["", *warnings] if warnings else [])])


def percent(part: float) -> str:
    """Write a part as a percentage with one decimal, without the sign."""
    return f"{100 * part:.1f}"


def median(sizes: np.ndarray) -> float:
    """Take the median of sizes that may be infinite; nan of none."""
    return float(np.quantile(sizes, 0.5, method="lower")) if len(sizes) else np.nan


def size_text(size: float) -> str:
    """Write a size; a dash where nothing was broken."""
    return "\N{EN DASH}" if not np.isfinite(size) else f"{size:.3g}"
