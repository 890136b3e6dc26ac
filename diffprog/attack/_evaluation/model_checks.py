"""What a model's answers about the first batch warn of. Each check yields cautions, or none.

Probabilities in place of logits and inputs outside their bounds are no cautions but errors: `attack.border`.
"""

import numpy as np

from diffprog.attack._evaluation.caution import Caution

DIFFERENT = 1e-4  # of the largest logit
CERTAIN = 2.0**-25  # a probability that is closer to 1 is 1 in float32
SATURATED = 0.05  # of the images
FLAT = 0.01  # of the images
ENOUGH = 8  # images to tell a model from guessing


def check_model(probe) -> list[Caution]:
    """What the model's answers about the first batch say."""
    checks = (chance, randomized, batch_dependent, saturated, zero_gradients, few_classes)
    return [caution for check in checks for caution in check(probe)]


def chance(probe):
    """Guessing does as well: then it is hardly the model that errs."""
    part, classes = probe.right.mean(), probe.logits.shape[1]
    if len(probe.labels) >= ENOUGH and part <= 1 / classes:
        yield Caution(
            "chance",
            f"{part:.0%} of the first images are classified as labeled, no more than guessing "
            f"among {classes} classes gets right: check that the labels use the model's numbering, and that "
            "images are prepared as in training.",
        )


def randomized(probe):
    """The same images twice."""
    if probe.again is not None and (change := _change(probe.logits, probe.again)) > DIFFERENT:
        yield Caution(
            "randomized",
            f"The same images give logits that differ by {change:.2g} of the largest when the "
            "model is compiled again, so it draws at random on its own and each program freezes other draws: "
            "switch dropout and the like off, or make it "
            "attack.ExpectationOverTransformation(network, num_samples), which is given a key.",
        )


def batch_dependent(probe):
    """The same images in another batch."""
    if probe.alone is None or _change(probe.logits, probe.again) > DIFFERENT:
        return
    if (change := _change(probe.logits[len(probe.logits) // 2 :], probe.alone)) > DIFFERENT:
        yield Caution(
            "batch-dependent",
            f"An image's logits change by {change:.2g} of the largest with the other "
            "images of its batch, so images are not attacked by themselves: put the model, above all its "
            "batch normalization, in inference mode.",
        )


def saturated(probe):
    """Where float32 rounds the label's probability to 1, cross-entropy has no gradient in the label's logit."""
    logits = probe.logits[probe.right].astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1) - 1  # of all other classes
    part = np.sum(odds < CERTAIN) / len(probe.labels)
    if part > SATURATED:
        yield Caution(
            "saturated",
            f"For {part:.0%} of the first images float32 rounds the label's probability to 1, "
            "where the gradient of the cross-entropy lacks the label's part or is zero, so attacks that "
            "follow it are weak: use loss=attack.margin or attack.dlr.",
        )


def zero_gradients(probe):
    """The margin never saturates: where its gradient is zero, the network stops it."""
    part = np.mean(probe.known & (probe.slope == 0))
    if part > FLAT:
        yield Caution(
            "zero-gradient",
            f"The gradient of the margin is exactly zero for {part:.0%} of the first "
            "images, so attacks by gradient are blind there: look for rounding, thresholds or dead units in "
            "the model, and add an attack without gradients.",
        )


def few_classes(probe):
    """The ratio of logits needs three classes, and its targeted form four."""
    classes = probe.logits.shape[1]
    if classes < 4:
        yield Caution(
            "few-classes",
            f"With {classes} classes the targeted ratio of logits is not what its paper "
            "defines, which takes 4 or more: read accuracies against AutoAttack's with care.",
        )


def _change(logits, others):
    """The largest difference, relative to the largest logit."""
    known = np.isfinite(logits) & np.isfinite(others)
    if not known.any():
        return 0.0
    return float(np.abs(logits - others)[known].max() / max(np.abs(logits[known]).max(), 1e-30))
