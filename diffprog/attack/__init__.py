"""Adversarial perturbations: searches on a network's input, whose budgets hold and whose verdicts can be trusted."""

from diffprog.attack._adversarial_training import adversarial_training
from diffprog.attack._attacks.auto_pgd import apgd, apgd_targeted
from diffprog.attack._attacks.autoattack import autoattack
from diffprog.attack._attacks.baselines import (
    additive_noise,
    blended,
    contrast_reduction,
    gaussian_blur,
    salt_and_pepper,
)
from diffprog.attack._attacks.carlini_wagner import carlini_wagner
from diffprog.attack._attacks.ddn import ddn
from diffprog.attack._attacks.deepfool import deepfool
from diffprog.attack._attacks.ead import ead
from diffprog.attack._attacks.fab import fab
from diffprog.attack._attacks.fast_gradient import bim, fgsm, pgd
from diffprog.attack._attacks.fmn import fmn
from diffprog.attack._attacks.gradient_free import nes, spsa
from diffprog.attack._attacks.gradient_transforms import (
    input_diversity,
    nesterov,
    translation_invariant,
    variance_tuned,
)
from diffprog.attack._attacks.hop_skip_jump import hop_skip_jump
from diffprog.attack._attacks.jsma import jsma
from diffprog.attack._attacks.lbfgs import lbfgs
from diffprog.attack._attacks.momentum import di_fgsm, mi_fgsm, ni_fgsm, ti_fgsm, vmi_fgsm
from diffprog.attack._attacks.patch import Patch, Placements, apply_patch, patch
from diffprog.attack._attacks.sigma_zero import sigma_zero
from diffprog.attack._attacks.spatial import spatial
from diffprog.attack._attacks.square import square
from diffprog.attack._attacks.universal import Universal, apply_universal, universal
from diffprog.attack._distortions import DISTORTIONS, survives_distortions
from diffprog.attack._engine.oracle import ExpectationOverTransformation
from diffprog.attack._engine.result import AttackResult, AttackWarning
from diffprog.attack._evaluation import AttackRecord, Evaluation, RobustnessWarning, WorstCase, evaluate
from diffprog.attack._losses import cross_entropy, dlr, margin, top_k_margin
from diffprog.attack._norms import NORMS, Norm, l0, l1, l2, linf
from diffprog.attack._targets import least_likely, random_targets, second_likely

__all__ = [
    "DISTORTIONS",
    "NORMS",
    "AttackRecord",
    "AttackResult",
    "AttackWarning",
    "Evaluation",
    "ExpectationOverTransformation",
    "Norm",
    "Patch",
    "Placements",
    "RobustnessWarning",
    "Universal",
    "WorstCase",
    "additive_noise",
    "adversarial_training",
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
    "input_diversity",
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
    "nesterov",
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
    "survives_distortions",
    "ti_fgsm",
    "top_k_margin",
    "translation_invariant",
    "universal",
    "variance_tuned",
    "vmi_fgsm",
]
