"""The files of a report: JSON, text, curves and the page."""

import json
import warnings
from pathlib import Path

import numpy as np

from diffprog._util.files import write_text
from diffprog.attack._evaluation.report.curves import MISSING, write_curves
from diffprog.attack._evaluation.report.page import page


def write_report(evaluation, directory):
    """Each file appears whole or not at all. Without matplotlib there is no `curves.png`, and a warning."""
    directory = Path(directory)
    write_text(directory / "report.json", json.dumps(report(evaluation), indent=1, allow_nan=False) + "\n")
    write_text(directory / "report.txt", f"{evaluation}\n")
    write_text(directory / "report.html", page(evaluation))
    try:
        write_curves(evaluation, directory / "curves.png")
    except ImportError:
        warnings.warn(MISSING, stacklevel=3)


def report(evaluation) -> dict:
    """Everything but pictures, as JSON has it, where an infinite number is null."""
    return {
        "images": len(evaluation.labels),
        "norm": evaluation.norm,
        "epsilons": evaluation.epsilons.tolist(),
        "clean_accuracy": evaluation.clean_accuracy,
        "not_finite": int((evaluation.clean_predictions < 0).sum()),
        "worst_case": evaluation.worst_case().tolist(),
        "attacks": {name: _attack(evaluation, name) for name in evaluation.outcomes},
        "warnings": [caution._asdict() for caution in evaluation.warnings],
        "smallest": _finite(evaluation.smallest),
        "broken_by": evaluation.broken_by,
        "hardest": [
            {
                "number": hard.number,
                "attack": hard.attack,
                "label": hard.label,
                "prediction": hard.prediction,
                "size": hard.size,
            }
            for hard in evaluation.hardest
        ],
        "settings": evaluation.settings,
        "versions": evaluation.versions,
    }


def _attack(evaluation, name):
    outcome = evaluation.outcomes[name]
    return {
        "accuracy": evaluation.accuracy(name).tolist(),
        "accuracy_8bit": evaluation.accuracy_8bit(name).tolist(),
        "counts": evaluation.counts(name),
        "smallest": _finite(outcome.smallest),
        "steps": int(outcome.steps.sum()),
        "queries": int(outcome.queries.sum()),
        "backward_passes": int(outcome.backward_passes.sum()),
        "seconds": float(outcome.seconds.sum()),
        "compile_seconds": float(outcome.compile_seconds.sum()),
    }


def _finite(sizes):
    return [float(size) if np.isfinite(size) else None for size in sizes]
