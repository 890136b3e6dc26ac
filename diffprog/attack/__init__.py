"""Adversarial perturbations: searches on a network's input, whose budgets hold and whose verdicts can be trusted."""

from diffprog.attack.gradient import bim, fgsm, pgd
from diffprog.attack.hop_skip_jump import hop_skip_jump
from diffprog.attack.lines import blended, contrast_reduction, gaussian_blur, salt_and_pepper
from diffprog.attack.losses import cross_entropy, dlr, margin
from diffprog.attack.method import Randomised
from diffprog.attack.noise import additive_noise
from diffprog.attack.norms import NORMS, Norm, l0, l1, l2, linf
from diffprog.attack.result import AttackResult
from diffprog.attack.spatial import spatial
from diffprog.attack.spsa import nes, spsa
from diffprog.attack.targets import least_likely, random_targets, second_likely
from diffprog.attack.training import adversarial

__all__ = [
    "NORMS",
    "AttackResult",
    "Norm",
    "Randomised",
    "additive_noise",
    "adversarial",
    "bim",
    "blended",
    "contrast_reduction",
    "cross_entropy",
    "dlr",
    "fgsm",
    "gaussian_blur",
    "hop_skip_jump",
    "l0",
    "l1",
    "l2",
    "least_likely",
    "linf",
    "margin",
    "nes",
    "pgd",
    "random_targets",
    "salt_and_pepper",
    "second_likely",
    "spatial",
    "spsa",
]
