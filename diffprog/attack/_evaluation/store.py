"""An evaluation's folder: what is kept of each image under each attack and budget.

manifest.json           the model, the settings and the versions that hold for all
clean/*.npz             the images as they are: their content and labels, and what the model says
attacks/NAME/           manifest.json, which is the attack with its arguments, and *.npz

Each .npz file holds some images at some budgets. Results are found by image and budget, in whatever file they are: so
an evaluation of more attacks, budgets or images, of fewer, or in batches of another size goes on with what is there.
"""

from typing import Any

from diffprog._util.resumable import changed_setting

FORMAT = 2


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Say how an evaluation differs from another in what holds for all of it."""
    if old.get("format") != FORMAT:
        return "of another version of diffprog"
    if old.get("model") != new["model"]:
        return "of another model (its code or its arrays)"
    if old.get("criterion") != new["criterion"]:
        return "by another criterion (its code, or what it reads)"
    return changed_setting(old, new)


def attack_difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Say how an attack differs from another of its name."""
    describe = lambda manifest: {"attacks": manifest.get("attacks")}
    if changed := changed_setting(describe(old), describe(new)):
        return changed
    changed = changed_setting(old, new)  # such as "of other settings (content.pgd.loss: ..."
    for name, digests in new.get("content", {}).items():
        for option, digest in sorted(digests.items(), key=lambda pair: pair[0] == "function"):  # the most special first
            if changed and old.get("content", {}).get(name, {}).get(option) != digest:
                what = f"attack {name!r}" if option == "function" else f"{option} in attack {name!r}"
                return f"of another {what} (its code, or what it reads)"
    return changed
