"""Adversarial perturbations: searches on a network's input, whose budgets hold and whose verdicts can be trusted."""

from diffprog.attack.carlini_wagner import carlini_wagner
from diffprog.attack.ddn import ddn
from diffprog.attack.deepfool import deepfool
from diffprog.attack.ead import ead
from diffprog.attack.fmn import fmn
from diffprog.attack.gradient import bim, fgsm, pgd
from diffprog.attack.jsma import jsma
from diffprog.attack.lbfgs import lbfgs
from diffprog.attack.losses import cross_entropy, dlr, margin
from diffprog.attack.method import Randomised
from diffprog.attack.norms import NORMS, Norm, l0, l1, l2, linf
from diffprog.attack.result import AttackResult
from diffprog.attack.sigma_zero import sigma_zero

__all__ = [
    "NORMS",
    "AttackResult",
    "Norm",
    "Randomised",
    "bim",
    "carlini_wagner",
    "cross_entropy",
    "ddn",
    "deepfool",
    "dlr",
    "ead",
    "fgsm",
    "fmn",
    "jsma",
    "l0",
    "l1",
    "l2",
    "lbfgs",
    "linf",
    "margin",
    "pgd",
    "sigma_zero",
]
