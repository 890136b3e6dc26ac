"""Adversarial perturbations: searches on a network's input, whose budgets hold and whose verdicts can be trusted."""

from diffprog.attack.apgd import apgd, apgd_targeted
from diffprog.attack.autoattack import autoattack
from diffprog.attack.carlini_wagner import carlini_wagner
from diffprog.attack.ddn import ddn
from diffprog.attack.deepfool import deepfool
from diffprog.attack.ead import ead
from diffprog.attack.evaluation import Caution, Evaluation, evaluate
from diffprog.attack.fab import fab
from diffprog.attack.fmn import fmn
from diffprog.attack.gradient import bim, fgsm, pgd
from diffprog.attack.hop_skip_jump import hop_skip_jump
from diffprog.attack.jsma import jsma
from diffprog.attack.lbfgs import lbfgs
from diffprog.attack.lines import blended, contrast_reduction, gaussian_blur, salt_and_pepper
from diffprog.attack.losses import cross_entropy, dlr, margin
from diffprog.attack.method import Randomised
from diffprog.attack.momentum import di_fgsm, mi_fgsm, ni_fgsm, ti_fgsm, vmi_fgsm
from diffprog.attack.noise import additive_noise
from diffprog.attack.norms import NORMS, Norm, l0, l1, l2, linf
from diffprog.attack.patch import Patch, Placements, apply_patch, patch
from diffprog.attack.result import AttackResult
from diffprog.attack.sigma_zero import sigma_zero
from diffprog.attack.spatial import spatial
from diffprog.attack.spsa import nes, spsa
from diffprog.attack.square import square
from diffprog.attack.survival import DISTORTIONS, survival
from diffprog.attack.targets import least_likely, random_targets, second_likely
from diffprog.attack.training import adversarial
from diffprog.attack.universal import Universal, apply_universal, universal

__all__ = [
    "DISTORTIONS",
    "NORMS",
    "AttackResult",
    "Caution",
    "Evaluation",
    "Norm",
    "Patch",
    "Placements",
    "Randomised",
    "Universal",
    "additive_noise",
    "adversarial",
    "apgd",
    "apgd_targeted",
    "apply_patch",
    "apply_universal",
    "autoattack",
    "bim",
    "blended",
    "carlini_wagner",
    "contrast_reduction",
    "cross_entropy",
    "ddn",
    "deepfool",
    "di_fgsm",
    "dlr",
    "ead",
    "evaluate",
    "fab",
    "fgsm",
    "fmn",
    "gaussian_blur",
    "hop_skip_jump",
    "jsma",
    "l0",
    "l1",
    "l2",
    "lbfgs",
    "least_likely",
    "linf",
    "margin",
    "mi_fgsm",
    "nes",
    "ni_fgsm",
    "patch",
    "pgd",
    "random_targets",
    "salt_and_pepper",
    "second_likely",
    "sigma_zero",
    "spatial",
    "spsa",
    "square",
    "survival",
    "ti_fgsm",
    "universal",
    "vmi_fgsm",
]
