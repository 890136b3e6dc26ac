"""Adversarial perturbations: descent on a network's input, inside a ball around it."""

from diffprog.attack.gradient import Result, fgsm, pgd
from diffprog.attack.losses import cross_entropy, margin
from diffprog.attack.norms import Norm, l2, linf

__all__ = ["Norm", "Result", "cross_entropy", "fgsm", "l2", "linf", "margin", "pgd"]
