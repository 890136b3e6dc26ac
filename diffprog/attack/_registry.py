"""What each attack can do: one table, which the README, the command line and the tests read."""

from typing import NamedTuple

from diffprog.attack._norms import Norm, l0, l1, l2, linf


class Capability(NamedTuple):
    """One attack. `norms` is empty where perturbations are not measured by a norm."""

    norms: tuple[Norm, ...]
    goal: str  # "budget": the most within one; "smallest": the smallest perturbation that succeeds; "shared"; "shape"
    targeted: bool
    asks: str  # what it must know of the model: "gradients", "logits" or "decisions"
    source: str


DENSE, THREE, ALL = (linf, l2), (linf, l2, l1), (linf, l2, l1, l0)

ATTACKS = {
    "fgsm": Capability(THREE, "budget", True, "gradients", "Goodfellow et al. 2015"),
    "bim": Capability(THREE, "budget", True, "gradients", "Kurakin et al. 2017"),
    "pgd": Capability(THREE, "budget", True, "gradients", "Madry et al. 2018"),
    "mi_fgsm": Capability(DENSE, "budget", True, "gradients", "Dong et al. 2018"),
    "ni_fgsm": Capability(DENSE, "budget", True, "gradients", "Lin et al. 2020"),
    "vmi_fgsm": Capability(DENSE, "budget", True, "gradients", "Wang & He 2021"),
    "di_fgsm": Capability(DENSE, "budget", True, "gradients", "Xie et al. 2019"),
    "ti_fgsm": Capability(DENSE, "budget", True, "gradients", "Dong et al. 2019"),
    "apgd": Capability(THREE, "budget", True, "gradients", "Croce & Hein 2020b, 2021"),
    "apgd_targeted": Capability(THREE, "budget", False, "gradients", "Croce & Hein 2020b"),
    "autoattack": Capability(THREE, "budget", False, "gradients", "Croce & Hein 2020b"),
    "square": Capability(THREE, "budget", True, "logits", "Andriushchenko et al. 2020"),
    "spsa": Capability(DENSE, "budget", True, "logits", "Uesato et al. 2018"),
    "nes": Capability(DENSE, "budget", True, "logits", "Ilyas et al. 2018"),
    "additive_noise": Capability(THREE, "budget", True, "logits", "baseline"),
    "lbfgs": Capability((l2,), "smallest", True, "gradients", "Szegedy et al. 2014"),
    "carlini_wagner": Capability((l2,), "smallest", True, "gradients", "Carlini & Wagner 2017"),
    "ead": Capability((l1,), "smallest", True, "gradients", "Chen et al. 2018"),
    "ddn": Capability((l2,), "smallest", True, "gradients", "Rony et al. 2019"),
    "fmn": Capability(ALL, "smallest", True, "gradients", "Pintor et al. 2021"),
    "deepfool": Capability(DENSE, "smallest", True, "gradients", "Moosavi-Dezfooli et al. 2016"),
    "fab": Capability(THREE, "smallest", False, "gradients", "Croce & Hein 2020a"),
    "sigma_zero": Capability((l0,), "smallest", True, "gradients", "Cinà et al. 2025"),
    "jsma": Capability((l0,), "smallest", True, "gradients", "Papernot et al. 2016"),
    "hop_skip_jump": Capability(DENSE, "smallest", True, "decisions", "Chen et al. 2020"),
    "blended": Capability(ALL, "smallest", True, "decisions", "baseline: a line to another image"),
    "contrast_reduction": Capability(ALL, "smallest", True, "decisions", "baseline"),
    "gaussian_blur": Capability(ALL, "smallest", True, "decisions", "baseline"),
    "salt_and_pepper": Capability(ALL, "smallest", True, "decisions", "baseline"),
    "universal": Capability(DENSE, "shared", True, "gradients", "Moosavi-Dezfooli et al. 2017, Shafahi et al. 2020"),
    "patch": Capability((), "shared", True, "gradients", "Brown et al. 2017"),
    "spatial": Capability((), "shape", True, "logits", "Engstrom et al. 2019"),
}


def table() -> str:
    """The capabilities as Markdown, which reads well in a terminal too."""
    head = ("attack", "norms", "seeks", "targeted", "asks the model for", "source")
    rows = [
        (
            name,
            ", ".join(norm.name for norm in each.norms) or "-",
            each.goal,
            "yes" if each.targeted else "no",
            each.asks,
            each.source,
        )
        for name, each in ATTACKS.items()
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    line = lambda row: "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])
