"""Adversarial perturbations: searches on a network's input, whose budgets hold and whose verdicts can be trusted."""

from diffprog.attack.apgd import apgd, apgd_targeted
from diffprog.attack.autoattack import autoattack
from diffprog.attack.evaluation import Caution, Evaluation, evaluate
from diffprog.attack.fab import fab
from diffprog.attack.gradient import bim, fgsm, pgd
from diffprog.attack.hop_skip_jump import hop_skip_jump
from diffprog.attack.losses import cross_entropy, dlr, margin
from diffprog.attack.method import Randomised
from diffprog.attack.momentum import di_fgsm, mi_fgsm, ni_fgsm, ti_fgsm, vmi_fgsm
from diffprog.attack.norms import NORMS, Norm, l0, l1, l2, linf
from diffprog.attack.result import AttackResult
from diffprog.attack.spsa import nes, spsa
from diffprog.attack.square import square
from diffprog.attack.survival import DISTORTIONS, survival
from diffprog.attack.targets import least_likely, random_targets, second_likely
from diffprog.attack.training import adversarial

__all__ = [
    "DISTORTIONS",
    "NORMS",
    "AttackResult",
    "Caution",
    "Evaluation",
    "Norm",
    "Randomised",
    "adversarial",
    "apgd",
    "apgd_targeted",
    "autoattack",
    "bim",
    "cross_entropy",
    "di_fgsm",
    "dlr",
    "evaluate",
    "fab",
    "fgsm",
    "hop_skip_jump",
    "l0",
    "l1",
    "l2",
    "least_likely",
    "linf",
    "margin",
    "mi_fgsm",
    "nes",
    "ni_fgsm",
    "pgd",
    "random_targets",
    "second_likely",
    "spsa",
    "square",
    "survival",
    "ti_fgsm",
    "vmi_fgsm",
]
