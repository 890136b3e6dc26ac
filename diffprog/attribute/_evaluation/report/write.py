"""The files of a report: JSON, Markdown and the page."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from diffprog._util.files import write_text
from diffprog.attribute._evaluation.report.table import headline, markdown, notes
from diffprog.attribute._evaluation.report.webpage import report_page
from diffprog.attribute._evaluation.results import AttributionEvaluation


def write_report(evaluation: AttributionEvaluation, directory: str | Path) -> None:
    """Write each file, whole or not at all."""
    directory = Path(directory)
    write_text(directory / "report.json", json.dumps(report_json(evaluation), indent=1, allow_nan=False) + "\n")
    text = "\n\n".join([headline(evaluation), markdown(evaluation), notes(evaluation)])
    write_text(directory / "report.md", f"{text}\n")
    write_text(directory / "report.html", report_page(evaluation))


def report_json(evaluation: AttributionEvaluation) -> dict[str, Any]:
    """Write everything but pictures as JSON has it, where what is no number is null."""
    return {
        "images": len(evaluation.labels),
        "labels": evaluation.labels.tolist(),
        "predictions": evaluation.predictions.tolist(),
        "probabilities": numbers(evaluation.probabilities),
        "methods": {name: _method_json(evaluation, name) for name in evaluation.methods},
        "better": {name: "high" if evaluation.is_high_good(name) else "low" for name in evaluation.measures},
        "best": {name: evaluation.best(name) for name in evaluation.measures},
        "settings": evaluation.settings,
        "versions": evaluation.versions,
    }


def _method_json(evaluation: AttributionEvaluation, name: str) -> dict[str, Any]:
    record = evaluation.methods[name]
    measures = {}
    for measure, found in record.measured.items():
        average = evaluation.average(name, measure)
        measures[measure] = {
            "mean": number(average.mean),
            "error": number(average.error),
            "values": numbers(found.value),
            "errors": None if found.error is None else numbers(found.error),
        }
    return {
        "score": numbers(record.score),
        "gap": numbers(record.gap),
        "evaluations": record.evaluations.tolist(),
        "seconds": record.seconds,
        "compile_seconds": record.compile_seconds,
        "measures": measures,
    }


def number(value: float) -> float | None:
    """Write a number, or null."""
    return float(value) if np.isfinite(value) else None


def numbers(values: np.ndarray) -> list[float | None]:
    """Write numbers, null where there is none."""
    return [number(value) for value in values]
