"""The files of a report: JSON, text, curves and the page."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from diffprog._util.files import write_text
from diffprog._util.warning import warn
from diffprog.attack._evaluation.report.curves import MISSING, write_curves
from diffprog.attack._evaluation.report.webpage import report_page
from diffprog.attack._evaluation.results import Evaluation


def write_report(evaluation: Evaluation, directory: str | Path) -> None:
    """Write each file, whole or not at all; without matplotlib there is no `curves.png`, but a warning."""
    directory = Path(directory)
    write_text(directory / "report.json", json.dumps(report_json(evaluation), indent=1, allow_nan=False) + "\n")
    write_text(directory / "report.txt", f"{evaluation}\n")
    write_text(directory / "report.html", report_page(evaluation))
    try:
        write_curves(evaluation, directory / "curves.png")
    except ImportError:
        warn(MISSING)


def report_json(evaluation: Evaluation) -> dict[str, Any]:
    """Write everything but pictures as JSON has it, where an infinite number is null."""
    return {
        "images": len(evaluation.labels),
        "norm": evaluation.norm,
        "epsilons": evaluation.epsilons.tolist(),
        "clean_accuracy": evaluation.clean_accuracy,
        "nonfinite": int((evaluation.clean_predictions < 0).sum()),
        "robust_accuracy": evaluation.robust_accuracy().tolist(),
        "attacks": {name: _attack_json(evaluation, name) for name in evaluation.records},
        "warnings": [warning._asdict() for warning in evaluation.warnings],
        "minimum_norm": _or_null(evaluation.minimum_norm),
        "broken_by": evaluation.broken_by,
        "worst_cases": [
            {name: value for name, value in case._asdict().items() if name not in ("original", "adversarial")}
            for case in evaluation.worst_cases
        ],
        "settings": evaluation.settings,
        "versions": evaluation.versions,
    }


def _attack_json(evaluation: Evaluation, name: str) -> dict[str, Any]:
    record = evaluation.records[name]
    return {
        "accuracy": evaluation.accuracy(name).tolist(),
        "accuracy_8bit": evaluation.accuracy_8bit(name).tolist(),
        "counts": evaluation.counts(name),
        "minimum_norm": _or_null(record.minimum_norm),
        "steps": int(record.steps.sum()),
        "queries": int(record.queries.sum()),
        "backward_passes": int(record.backward_passes.sum()),
        "seconds": float(record.seconds.sum()),
        "compile_seconds": float(record.compile_seconds.sum()),
    }


def _or_null(sizes: np.ndarray) -> list[float | None]:
    return [float(size) if np.isfinite(size) else None for size in sizes]
