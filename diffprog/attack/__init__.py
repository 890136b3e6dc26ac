"""Adversarial perturbations: searches on a network's input, whose budgets hold and whose verdicts can be trusted."""

from diffprog.attack.gradient import bim, fgsm, pgd
from diffprog.attack.losses import cross_entropy, dlr, margin
from diffprog.attack.method import Randomised
from diffprog.attack.norms import NORMS, Norm, l0, l1, l2, linf
from diffprog.attack.result import AttackResult
from diffprog.attack.survival import DISTORTIONS, survival
from diffprog.attack.training import adversarial

__all__ = [
    "DISTORTIONS",
    "NORMS",
    "AttackResult",
    "Norm",
    "Randomised",
    "adversarial",
    "bim",
    "cross_entropy",
    "dlr",
    "fgsm",
    "l0",
    "l1",
    "l2",
    "linf",
    "margin",
    "pgd",
    "survival",
]
