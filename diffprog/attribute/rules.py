"""Rules of layer-wise relevance propagation, as values that combine.

A rule says how a unit's relevance is divided among what it is a sum of. For z_j = sum_i x_i w_ij + b_j, with
z_ij = x_i w_ij, and + and - for the positive and the negative part:

    zero()               R_i = sum_j z_ij / z_j R_j
    epsilon(e)           R_i = sum_j z_ij / (z_j + e sign(z_j)) R_j
    gamma(g)             positive terms of a positive z_j, and negative terms of a negative one, count 1 + g times
    z_plus()             R_i = sum_j z_ij+ / z_j+ R_j
    alpha_beta(a, b)     R_i = sum_j (a z_ij+ / z_j+ - b z_ij- / z_j-) R_j, with a - b = 1
    z_box(low, high)     R_i = sum_j (x_i w_ij - low w_ij+ - high w_ij-) / (their sum) R_j, for inputs in [low, high]
    w_square()           R_i = sum_j w_ij^2 / (their sum) R_j
    flat()               R_i = sum_j 1 / (their number) R_j

The last three look at no activations, and are for layers that read the inputs. `composite` chooses by kind of layer, by
depth and by selector.

References:
    Bach et al., "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance propagation",
    2015. Montavon et al., "Explaining nonlinear classification decisions with deep Taylor decomposition", 2017 (z-box,
    w^2, z+). Montavon et al., "Layer-wise relevance propagation: an overview", 2019 (gamma, composites by depth).
"""

from diffprog.attribute._backward_rules.relevance_rules import (
    Composite,
    Rule,
    alpha_beta,
    composite,
    epsilon,
    epsilon_gamma_box,
    epsilon_plus,
    flat,
    gamma,
    w_square,
    z_box,
    z_plus,
    zero,
)

__all__ = [
    "Composite",
    "Rule",
    "alpha_beta",
    "composite",
    "epsilon",
    "epsilon_gamma_box",
    "epsilon_plus",
    "flat",
    "gamma",
    "w_square",
    "z_box",
    "z_plus",
    "zero",
]
