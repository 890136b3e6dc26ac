"""Adversarial perturbations: searches on a network's input, whose budgets hold and whose verdicts can be trusted."""

from diffprog.attack.evaluation import Caution, Evaluation, evaluate
from diffprog.attack.gradient import bim, fgsm, pgd
from diffprog.attack.losses import cross_entropy, dlr, margin
from diffprog.attack.method import Randomised
from diffprog.attack.norms import NORMS, Norm, l0, l1, l2, linf
from diffprog.attack.result import AttackResult

__all__ = [
    "NORMS",
    "AttackResult",
    "Caution",
    "Evaluation",
    "Norm",
    "Randomised",
    "bim",
    "cross_entropy",
    "dlr",
    "evaluate",
    "fgsm",
    "l0",
    "l1",
    "l2",
    "linf",
    "margin",
    "pgd",
]
