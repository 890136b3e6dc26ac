"""What the numbers of an evaluation warn of. Each check yields cautions, or none."""

import numpy as np

from diffprog.attack._evaluation.caution import Caution

SURPASSED = 0.002  # of accuracy: what AutoAttack warns of, too
LATE = 0.05  # of the successes
RISE = 0.01  # of accuracy
UNDONE = 0.05  # of what the search found


def check_results(evaluation) -> list[Caution]:
    """What the numbers say."""
    checks = (not_finite, black_box, few_steps, more_steps, rising, exceeded, undone)
    return [caution for check in checks for caution in check(evaluation)]


def not_finite(evaluation):
    """Neither robust nor broken."""
    before = int((evaluation.clean_predictions < 0).sum())
    found = {name: int(outcome.nonfinite.any(axis=0).sum()) - before for name, outcome in evaluation.outcomes.items()}
    name = max(found, key=found.get)
    if before or found[name]:
        yield Caution(
            "not-finite",
            f"Logits are NaN or infinite for {before} images as they are and for up to "
            f"{found[name]} more on the way of {name}, which count as neither robust nor broken: mend the "
            "overflow in the model.",
        )


def black_box(evaluation):
    """Whoever sees gradients should not do worse than whoever does not."""
    blind = [name for name, outcome in evaluation.outcomes.items() if not outcome.backward_passes.any()]
    seeing = [name for name in evaluation.outcomes if name not in blind]
    if not seeing:
        return
    best = evaluation.worst_case(seeing)
    for name in blind:
        ahead = best - evaluation.accuracy(name)
        at = int(np.argmax(ahead))
        if ahead[at] > SURPASSED:
            yield Caution(
                "black-box",
                f"{name}, which uses no gradients, leaves {evaluation.accuracy(name)[at]:.1%} "
                f"at budget {evaluation.epsilons[at]:.4g}, and all attacks by gradient {best[at]:.1%}: "
                "gradients of this model mislead, so look for what masks them, and trust no larger number.",
            )


def few_steps(evaluation):
    """A search that still succeeds at its end has not ended."""
    for name, outcome in _within_budgets(evaluation):
        steps = evaluation.settings["attacks"][name]["arguments"].get("max_steps")
        if not isinstance(steps, int) or steps < 10:
            continue
        found = outcome.success & (outcome.first_success >= 0)
        late = found & (outcome.first_success >= 0.9 * steps)
        if late.sum() > max(1, LATE * found.sum()):
            yield Caution(
                "few-steps",
                f"{late.sum()} of {found.sum()} successes of {name} came in the last tenth of "
                f"its {steps} steps, so it had not finished: give it more steps.",
            )


def more_steps(evaluation):
    """The same attack with more steps should do better, and in the end no better."""
    attacks = evaluation.settings["attacks"]
    rest = lambda name: {**attacks[name], "arguments": {**attacks[name]["arguments"], "max_steps": None}}
    steps = {name: attacks[name]["arguments"].get("max_steps") for name in attacks}
    for less in attacks:
        for more in attacks:
            if not (isinstance(steps[less], int) and rest(less) == rest(more) and steps[less] < steps[more]):
                continue
            gain = evaluation.accuracy(less) - evaluation.accuracy(more)
            low, high = int(np.argmin(gain)), int(np.argmax(gain))
            if gain[high] > 2 * RISE:
                yield Caution(
                    "few-steps",
                    f"{more} leaves {gain[high] * 100:.1f} points less than {less} at budget "
                    f"{evaluation.epsilons[high]:.4g}: {steps[less]} steps are too few, and "
                    f"{steps[more]} may be, so give both more until the difference is gone.",
                )
            if gain[low] < -SURPASSED:
                yield Caution(
                    "more-steps",
                    f"{more} leaves {-gain[low] * 100:.1f} points more than {less} at budget "
                    f"{evaluation.epsilons[low]:.4g}, though it has more steps: gradients are noisy, so "
                    "average them with attack.ExpectationOverTransformation, or add restarts.",
                )


def rising(evaluation):
    """Before an image keeps what a smaller budget did to it."""
    for name, outcome in _within_budgets(evaluation):
        broken = (outcome.success & ~outcome.from_smaller_budget).mean(axis=1)
        drop = np.diff(broken)
        if len(drop) and -drop.min() > RISE:
            at = int(np.argmin(drop))
            small, large = (f"{evaluation.epsilons[budget]:.4g}" for budget in (at, at + 1))
            yield Caution(
                "rising",
                f"{name} alone breaks {broken[at + 1]:.1%} of the images at budget {large}, and "
                f"{broken[at]:.1%} at the smaller {small}, although all that it may do there it may do here: "
                "its search is too weak for large budgets, so give it more or shorter steps, or restarts.",
            )


def exceeded(evaluation):
    """A budget is measured here, whatever an attack says."""
    for name, outcome in _within_budgets(evaluation):
        if outcome.exceeded.any():
            yield Caution(
                "exceeded",
                f"{outcome.exceeded.sum()} successes of {name} are larger than their budget in "
                f"{evaluation.norm} and do not count: mend the attack, or evaluate it in its own norm.",
            )


def undone(evaluation):
    """What a search took for a success is judged again, of a model that draws on fresh draws."""
    for name, outcome in evaluation.outcomes.items():
        found = (outcome.first_success >= 0) & ~outcome.from_smaller_budget & ~outcome.exceeded
        lost = int(np.sum(found & ~outcome.success & ~outcome.nonfinite))
        if lost > max(1, UNDONE * found.sum()):
            yield Caution(
                "undone",
                f"{lost} of {found.sum()} successes of {name} were none when the model was asked "
                "again, as happens where draws decide, above all to the smallest perturbations: let the "
                "attack seek a lead, with functools.partial(attack, confidence=1.0), or give "
                "attack.ExpectationOverTransformation a larger num_samples.",
            )


def _within_budgets(evaluation):
    """The attacks that search within budgets that they are given."""
    return [
        (name, outcome)
        for name, outcome in evaluation.outcomes.items()
        if evaluation.settings["attacks"][name]["search"] == "within budgets"
    ]
