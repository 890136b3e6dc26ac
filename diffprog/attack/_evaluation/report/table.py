"""An evaluation in numbers: rows of text that the table, the page and the JSON file share."""

import numpy as np


def budget_text(evaluation, epsilon) -> str:
    """A budget as people write it: 8/255 where all are such levels of L-infinity, else 0.5."""
    levels = evaluation.epsilons * 255
    pixels = evaluation.norm == "linf" and tuple(evaluation.bounds) == (0.0, 1.0)
    if pixels and np.all(np.abs(levels - levels.round()) < 1e-6):
        return f"{round(epsilon * 255)}/255"
    return f"{epsilon:.4g}"


def norm_text(norm) -> str:
    return {"linf": "L∞"}.get(norm, norm.upper())


def budgets(evaluation) -> list[str]:
    return [budget_text(evaluation, epsilon) for epsilon in evaluation.epsilons]


def rows(evaluation) -> list[tuple[str, list[str], list[str]]]:
    """(name, accuracy at each budget, the rest) of each attack and of the worst case."""
    found = []
    for name, outcome in evaluation.outcomes.items():
        images = max(len(evaluation.labels), 1)
        found.append(
            (
                name,
                [percent(value) for value in evaluation.accuracy(name)],
                [
                    percent(evaluation.accuracy_8bit(name)[-1]),
                    size_text(median(outcome.smallest[evaluation.right])),
                    f"{outcome.backward_passes.sum() / images:.0f}",
                    f"{outcome.queries.sum() / images:.0f}",
                    f"{outcome.seconds.sum():.1f}",
                    f"{outcome.compile_seconds.sum():.1f}",
                ],
            )
        )
    worst = [percent(value) for value in evaluation.worst_case()]
    rest = ["", size_text(median(evaluation.smallest[evaluation.right])), "", "", "", ""]
    return [*found, ("worst case", worst, rest)]


REST = ("8-bit", "median", "gradients", "queries", "seconds", "compiling")


def headline(evaluation) -> str:
    return (
        f"{percent(evaluation.clean_accuracy)} % of {len(evaluation.labels)} images are right before an attack; "
        f"budgets in {norm_text(evaluation.norm)}"
    )


def notes(evaluation) -> str:
    """What the columns mean."""
    return (
        f"Accuracy in % under each attack and budget. 8-bit: at {budgets(evaluation)[-1]}, if what the attack "
        f"returned goes through 8-bit files. median: size of the smallest perturbation that breaks an image, among "
        "those that are right before it. gradients, queries: passes per image, backward and forward. seconds: of "
        "the attack, compiling apart."
    )


def text_table(evaluation) -> str:
    """The whole as lines of text."""
    table = [["attack", *budgets(evaluation), *REST]]
    table += [[name, *accuracies, *rest] for name, accuracies, rest in rows(evaluation)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in table
    ]
    rule = "-" * max(map(len, lines))
    said = [f"{caution.code}: {caution.sentence}" for caution in evaluation.warnings]
    return "\n".join(
        [
            headline(evaluation),
            "",
            lines[0],
            rule,
            *lines[1:-1],
            rule,
            lines[-1],
            "",
            notes(evaluation),
            *(["", *said] if said else []),
        ]
    )


def percent(part) -> str:
    return f"{100 * part:.1f}"


def median(sizes) -> float:
    """Of sizes that may be infinite; nan of none."""
    return float(np.quantile(sizes, 0.5, method="lower")) if len(sizes) else np.nan


def size_text(size) -> str:
    return "\N{EN DASH}" if not np.isfinite(size) else f"{size:.3g}"
