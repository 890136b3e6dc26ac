"""An evaluation's folder: what is kept of each image under each method and measure.

manifest.json                     the model, the settings and the versions that hold for all
clean/*.npz                       the images as they are: their content, labels, and what the model says
methods/NAME/                     manifest.json, which is the method with its arguments; *.npz: scores, gaps
methods/NAME/maps/                of the first images
methods/NAME/measures/MEASURE/    likewise of a measure of it
"""

from typing import Any

from diffprog._util.resumable import changed_setting

FORMAT = 1
CLEAN = ("labels", "content", "predictions", "probabilities")
METHOD = ("score", "baseline_score", "gap", "evaluations")
MEASURE = ("value", "error", "curve", "at", "evaluations")


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Say how an evaluation differs from another in what holds for all of it."""
    if old.get("format") != FORMAT:
        return "of another version of diffprog"
    if old.get("model") != new["model"]:
        return "of another model (its code or its arrays)"
    return changed_setting(old, new)


def spec_difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Say how a method or a measure differs from another of its name."""
    for kind in ("measures", "methods"):
        if kind in new and (changed := changed_setting({kind: old.get(kind)}, {kind: new[kind]})):
            return changed
    changed = changed_setting(old, new)
    for name, digests in new.get("content", {}).items():
        for option, digest in sorted(digests.items(), key=lambda pair: pair[0] == "function"):  # the most special first
            if changed and old.get("content", {}).get(name, {}).get(option) != digest:
                what = name if option == "function" else f"{option} in {name}"
                return f"of another {what} (its code, or what it reads)"
    return changed
