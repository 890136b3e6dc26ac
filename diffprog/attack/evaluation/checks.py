"""Signs that robustness is only apparent. Each check is a function that returns cautions, or none.

Probabilities in place of logits and inputs outside their bounds are no cautions but errors: `attack.border`.
"""

from typing import NamedTuple

import numpy as np

DIFFERENT = 1e-4  # of the largest logit
SATURATED = 0.05  # of the images
FLAT = 0.01  # of the images
SURPASSED = 0.002  # of accuracy: what AutoAttack warns of, too
LATE = 0.05  # of the successes
RISE = 0.01  # of accuracy


class Caution(NamedTuple):
    """Something that a reader of the numbers should know."""

    code: str
    sentence: str  # what was found, what it means and what to do


def of_model(probe) -> list[Caution]:
    """What the model's answers about the first batch say."""
    checks = (randomised, batch_dependent, saturated, zero_gradients, few_classes)
    return [caution for check in checks for caution in check(probe)]


def of_results(evaluation) -> list[Caution]:
    """What the numbers say."""
    checks = (not_finite, black_box, few_steps, more_steps, rising, exceeded)
    return [caution for check in checks for caution in check(evaluation)]


def randomised(probe):
    """The same images twice."""
    if probe.again is not None and (change := _change(probe.logits, probe.again)) > DIFFERENT:
        yield Caution("randomised", f"The same images give logits that differ by {change:.2g} of the largest when the "
                      "model is compiled again, so it draws at random on its own and each program freezes other draws: "
                      "switch dropout and the like off, or make it attack.Randomised(network, samples), which is given "
                      "a key.")


def batch_dependent(probe):
    """The same images in another batch."""
    if probe.alone is None or _change(probe.logits, probe.again) > DIFFERENT:
        return
    if (change := _change(probe.logits[len(probe.logits) // 2 :], probe.alone)) > DIFFERENT:
        yield Caution("batch-dependent", f"An image's logits change by {change:.2g} of the largest with the other "
                      "images of its batch, so images are not attacked by themselves: put the model, above all its "
                      "batch normalisation, in inference mode.")


def saturated(probe):
    """Where cross-entropy is 0 in float32, the label's part is missing from its gradient, or all of it."""
    part = np.mean(probe.right & (probe.loss == 0))
    if part > SATURATED:
        yield Caution("saturated", f"The cross-entropy of {part:.0%} of the first images is exactly 0 in float32, where "
                      "its gradient is zero or lacks the label's part, so attacks that follow it are weak: use "
                      "loss=attack.margin or attack.dlr.")


def zero_gradients(probe):
    """The margin never saturates: where its gradient is zero, the network stops it."""
    part = np.mean(probe.known & (probe.slope == 0))
    if part > FLAT:
        yield Caution("zero-gradient", f"The gradient of the margin is exactly zero for {part:.0%} of the first images, "
                      "so attacks by gradient are blind there: look for rounding, thresholds or dead units in the "
                      "model, and add an attack without gradients.")


def few_classes(probe):
    """The ratio of logits needs three classes, and its targeted form four."""
    classes = probe.logits.shape[1]
    if classes < 4:
        yield Caution("few-classes", f"With {classes} classes the targeted ratio of logits is not what its paper "
                      "defines, which takes 4 or more: read accuracies against AutoAttack's with care.")


def not_finite(evaluation):
    """Neither robust nor broken."""
    before = int((evaluation.before < 0).sum())
    found = {name: int(outcome.invalid.any(axis=0).sum()) - before for name, outcome in evaluation.outcomes.items()}
    name = max(found, key=found.get)
    if before or found[name]:
        yield Caution("not-finite", f"Logits are NaN or infinite for {before} images as they are and for up to "
                      f"{found[name]} more on the way of {name}, which count as neither robust nor broken: mend the "
                      "overflow in the model.")


def black_box(evaluation):
    """Whoever sees gradients should not do worse than whoever does not."""
    blind = [name for name, outcome in evaluation.outcomes.items() if not outcome.gradients.any()]
    seeing = [name for name in evaluation.outcomes if name not in blind]
    if not seeing:
        return
    best = evaluation.worst_case(seeing)
    for name in blind:
        ahead = best - evaluation.accuracy(name)
        at = int(np.argmax(ahead))
        if ahead[at] > SURPASSED:
            yield Caution("black-box", f"{name}, which uses no gradients, leaves {evaluation.accuracy(name)[at]:.1%} at "
                          f"budget {evaluation.epsilons[at]:.4g}, and all attacks by gradient {best[at]:.1%}: gradients "
                          "of this model mislead, so look for what masks them, and trust none of the numbers above it.")


def few_steps(evaluation):
    """A search that still succeeds at its end has not ended."""
    for name, outcome in _within_budgets(evaluation):
        steps = evaluation.settings["attacks"][name]["arguments"].get("steps")
        if not isinstance(steps, int) or steps < 10:
            continue
        found = outcome.success & (outcome.first_success >= 0)
        late = found & (outcome.first_success >= 0.9 * steps)
        if late.sum() > max(1, LATE * found.sum()):
            yield Caution("few-steps", f"{late.sum()} of {found.sum()} successes of {name} came in the last tenth of its "
                          f"{steps} steps, so it had not finished: give it more steps.")


def more_steps(evaluation):
    """The same attack with more steps should do better, and in the end no better."""
    attacks = evaluation.settings["attacks"]
    rest = lambda name: {**attacks[name], "arguments": {**attacks[name]["arguments"], "steps": None}}
    steps = {name: attacks[name]["arguments"].get("steps") for name in attacks}
    for less in attacks:
        for more in attacks:
            if not (isinstance(steps[less], int) and rest(less) == rest(more) and steps[less] < steps[more]):
                continue
            gain = evaluation.accuracy(less) - evaluation.accuracy(more)
            low, high = int(np.argmin(gain)), int(np.argmax(gain))
            if gain[high] > 2 * RISE:
                yield Caution("few-steps", f"{more} leaves {gain[high] * 100:.1f} points less than {less} at budget "
                              f"{evaluation.epsilons[high]:.4g}: {steps[less]} steps are too few, and "
                              f"{steps[more]} may be, so give both more until the difference is gone.")
            if gain[low] < -SURPASSED:
                yield Caution("more-steps", f"{more} leaves {-gain[low] * 100:.1f} points more than {less} at budget "
                              f"{evaluation.epsilons[low]:.4g}, though it has more steps: gradients are noisy, so "
                              "average them with attack.Randomised, or add restarts.")


def rising(evaluation):
    """Before an image keeps what a smaller budget did to it."""
    for name, outcome in _within_budgets(evaluation):
        broken = (outcome.success & ~outcome.repaired).mean(axis=1)
        drop = np.diff(broken)
        if len(drop) and -drop.min() > RISE:
            at = int(np.argmin(drop))
            small, large = (f"{evaluation.epsilons[budget]:.4g}" for budget in (at, at + 1))
            yield Caution("rising", f"{name} alone breaks {broken[at + 1]:.1%} of the images at budget {large}, and "
                          f"{broken[at]:.1%} at the smaller {small}, although all that it may do there it may do here: "
                          "its search is too weak for large budgets, so give it more or shorter steps, or restarts.")


def exceeded(evaluation):
    """A budget is measured here, whatever an attack says."""
    for name, outcome in _within_budgets(evaluation):
        if outcome.exceeded.any():
            yield Caution("exceeded", f"{outcome.exceeded.sum()} successes of {name} are larger than their budget in "
                          f"{evaluation.norm} and do not count: mend the attack, or evaluate it in its own norm.")


def _within_budgets(evaluation):
    """The attacks that search within budgets that they are given."""
    return [(name, outcome) for name, outcome in evaluation.outcomes.items()
            if evaluation.settings["attacks"][name]["search"] == "within budgets"]


def _change(logits, others):
    """The largest difference, relative to the largest logit."""
    known = np.isfinite(logits) & np.isfinite(others)
    if not known.any():
        return 0.0
    return float(np.abs(logits - others)[known].max() / max(np.abs(logits[known]).max(), 1e-30))
