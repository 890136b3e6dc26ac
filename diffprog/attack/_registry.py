"""What each attack can do: one table, which the README, the command line and the tests read."""

from typing import NamedTuple

from diffprog._util.tables import markdown_table
from diffprog.attack._norms import Norm, l0, l1, l2, linf


class AttackInfo(NamedTuple):
    """One attack. `norms` is empty where perturbations are not measured by a norm."""

    norms: tuple[Norm, ...]
    # "budget": the largest loss within one; "minimum_norm": the smallest perturbation that succeeds; "shared": one
    # perturbation for all images; "shape": a motion
    goal: str
    targeted: bool
    access: str  # what it must know of the model: "gradients", "logits" or "decisions"
    source: str


DENSE, THREE, ALL = (linf, l2), (linf, l2, l1), (linf, l2, l1, l0)

ATTACKS = {
    "fgsm": AttackInfo(THREE, "budget", True, "gradients", "Goodfellow et al. 2015"),
    "bim": AttackInfo(THREE, "budget", True, "gradients", "Kurakin et al. 2017"),
    "pgd": AttackInfo(THREE, "budget", True, "gradients", "Madry et al. 2018"),
    "mi_fgsm": AttackInfo(DENSE, "budget", True, "gradients", "Dong et al. 2018"),
    "ni_fgsm": AttackInfo(DENSE, "budget", True, "gradients", "Lin et al. 2020"),
    "vmi_fgsm": AttackInfo(DENSE, "budget", True, "gradients", "Wang & He 2021"),
    "di_fgsm": AttackInfo(DENSE, "budget", True, "gradients", "Xie et al. 2019"),
    "ti_fgsm": AttackInfo(DENSE, "budget", True, "gradients", "Dong et al. 2019"),
    "apgd": AttackInfo(THREE, "budget", True, "gradients", "Croce & Hein 2020b, 2021"),
    "apgd_targeted": AttackInfo(THREE, "budget", False, "gradients", "Croce & Hein 2020b"),
    "autoattack": AttackInfo(THREE, "budget", False, "gradients", "Croce & Hein 2020b"),
    "square": AttackInfo(THREE, "budget", True, "logits", "Andriushchenko et al. 2020"),
    "spsa": AttackInfo(DENSE, "budget", True, "logits", "Uesato et al. 2018"),
    "nes": AttackInfo(DENSE, "budget", True, "logits", "Ilyas et al. 2018"),
    "additive_noise": AttackInfo(THREE, "budget", True, "logits", "baseline"),
    "lbfgs": AttackInfo((l2,), "minimum_norm", True, "gradients", "Szegedy et al. 2014"),
    "carlini_wagner": AttackInfo((l2,), "minimum_norm", True, "gradients", "Carlini & Wagner 2017"),
    "ead": AttackInfo((l1,), "minimum_norm", True, "gradients", "Chen et al. 2018"),
    "ddn": AttackInfo((l2,), "minimum_norm", True, "gradients", "Rony et al. 2019"),
    "fmn": AttackInfo(ALL, "minimum_norm", True, "gradients", "Pintor et al. 2021"),
    "deepfool": AttackInfo(DENSE, "minimum_norm", True, "gradients", "Moosavi-Dezfooli et al. 2016"),
    "fab": AttackInfo(THREE, "minimum_norm", False, "gradients", "Croce & Hein 2020a"),
    "sigma_zero": AttackInfo((l0,), "minimum_norm", True, "gradients", "Cinà et al. 2025"),
    "jsma": AttackInfo((l0,), "minimum_norm", True, "gradients", "Papernot et al. 2016"),
    "hop_skip_jump": AttackInfo(DENSE, "minimum_norm", True, "decisions", "Chen et al. 2020"),
    "blended": AttackInfo(ALL, "minimum_norm", True, "decisions", "baseline: a line to another image"),
    "contrast_reduction": AttackInfo(ALL, "minimum_norm", True, "decisions", "baseline"),
    "gaussian_blur": AttackInfo(ALL, "minimum_norm", True, "decisions", "baseline"),
    "salt_and_pepper": AttackInfo(ALL, "minimum_norm", True, "decisions", "baseline"),
    "universal": AttackInfo(DENSE, "shared", True, "gradients", "Moosavi-Dezfooli et al. 2017, Shafahi et al. 2020"),
    "patch": AttackInfo((), "shared", True, "gradients", "Brown et al. 2017"),
    "spatial": AttackInfo((), "shape", True, "logits", "Engstrom et al. 2019"),
}


def table() -> str:
    """Write the registry as Markdown, which reads well in a terminal too."""
    head = ("attack", "norms", "goal", "targeted", "needs", "source")
    cells = [
        (
            name,
            ", ".join(norm.name for norm in info.norms) or "-",
            info.goal,
            "yes" if info.targeted else "no",
            info.access,
            info.source,
        )
        for name, info in ATTACKS.items()
    ]
    return markdown_table(head, cells)
