"""Signs that robustness is only apparent: in the model's answers about the first batch, and in the numbers.

Each check yields messages, or none. Probabilities in place of logits and images outside their bounds are errors, not
warnings.
"""

from collections.abc import Iterator
from itertools import permutations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.promotion import own_promotion
from diffprog.attack._engine.answers import call_model
from diffprog.attack._engine.loop import BatchedModel
from diffprog.attack._engine.method import Example
from diffprog.attack._engine.oracle import ExpectationOverTransformation, value_and_gradient
from diffprog.attack._evaluation.results import AttackRecord, Evaluation, RobustnessWarning
from diffprog.attack._losses import margin

# ---------------------------------------------------------------- the model

MAX_DIFFERENCE = 1e-4  # of the largest logit
CERTAIN = 2.0**-25  # a probability that is closer to 1 is 1 in float32
MAX_SATURATED = 0.05  # of the images
MAX_FLAT = 0.01  # of the images
MIN_IMAGES = 8  # to tell a model from guessing


class ModelAnswers(NamedTuple):
    """What a model says of the first batch: NumPy arrays with one row per image."""

    labels: np.ndarray
    logits: np.ndarray  # [n, classes]
    logits_again: np.ndarray | None  # of the model compiled anew; None of a network that draws
    logits_apart: np.ndarray | None  # of the last half, in another batch; None of one image or if it draws
    logits_near: np.ndarray  # of images beside these, within the largest budget
    slope: np.ndarray  # largest element of the gradient of the margin; NaN if an element is

    @property
    def finite(self) -> np.ndarray:
        """Whether all logits are finite, bool [n]."""
        return _are_finite(self.logits)

    @property
    def correct(self) -> np.ndarray:
        """Whether each image is classified as labeled, bool [n]."""
        return self.finite & (self.logits.argmax(axis=1) == self.labels)


@own_promotion()
def ask_model(
    logits_of: BatchedModel,
    images: np.ndarray,
    labels: np.ndarray,
    keys: jax.Array,
    bounds: tuple[float, float],
    distance: float = 1 / 32,
) -> ModelAnswers:
    """Ask a model a few questions about the first batch, before it is attacked.

    Args:
        logits_of: With the model as attacks ask it.
        images: [n, ...].
        labels: int [n].
        keys: Random keys of the images, [n].
        bounds: Smallest and largest value of a pixel.
        distance: From an image to one beside it, in each pixel.
    """
    network: Any = logits_of.oracle.model
    key_bits = np.asarray(jax.random.key_data(keys))
    logits = logits_of(images, key_bits)
    again = apart = None
    if not isinstance(network, ExpectationOverTransformation):
        again = np.asarray(jax.jit(lambda points: call_model(network, points))(images))
        half = len(images) // 2
        apart = logits_of(images[half:][::-1], key_bits[half:])[::-1] if half else None

    labels = np.asarray(labels)
    of_classes = labels.ndim == 1 and labels.dtype.kind in "iu"
    loss = margin if of_classes else lambda logits, labels: logits.reshape(len(logits), -1).max(axis=1)

    @jax.jit
    def gradient_of_margin(example: Example) -> jax.Array:
        return value_and_gradient(logits_of.oracle, loss, example.image, example, example.key)[2]

    no_budget = np.full(len(images), np.inf, np.float32)
    low, high = (np.full_like(images, bound) for bound in bounds)
    rows: Any = (jnp.asarray(images), labels, labels, no_budget, low, high, keys)
    example = Example(*rows)
    slope = np.abs(np.asarray(gradient_of_margin(example))).reshape(len(images), -1).max(axis=1)
    steps = distance * np.random.default_rng(0).choice([-1, 1], images.shape)
    near = logits_of(np.clip(images + steps, *bounds).astype(np.float32), key_bits)
    return ModelAnswers(labels, logits, again, apart, near, slope)


def check_model(answers: ModelAnswers, of_classes: bool = True) -> list[RobustnessWarning]:
    """List what the model's answers about the first batch warn of; `of_classes` if a label is the class to predict."""
    checks = {
        "chance": _chance,
        "randomized": _randomized,
        "batch-dependent": _batch_dependent,
        "saturated": _saturated,
        "zero-gradient": _zero_gradients,
        "not-finite-gradient": _nonfinite_gradients,
        "not-finite-nearby": _nonfinite_nearby,
        "few-classes": _few_classes,
    }
    if not of_classes:
        checks = {code: check for code, check in checks.items() if check not in (_chance, _saturated, _few_classes)}
    return [RobustnessWarning(code, message) for code, check in checks.items() for message in check(answers)]


def _chance(answers: ModelAnswers) -> Iterator[str]:
    """Compare with guessing: if that does as well, the labels or the images are wrong rather than the model."""
    part, classes = answers.correct.mean(), answers.logits.shape[1]
    if len(answers.labels) >= MIN_IMAGES and part <= 1 / classes:
        yield (
            f"{part:.0%} of the first images are classified as labeled, no more than guessing among {classes} classes "
            "gets right: check that labels use the model's numbering, and that images are prepared as in training."
        )


def _randomized(answers: ModelAnswers) -> Iterator[str]:
    """Compare the logits of two compiled programs."""
    if answers.logits_again is None:
        return
    if (change := _relative_change(answers.logits, answers.logits_again)) > MAX_DIFFERENCE:
        yield (
            f"The same images give logits that differ by {change:.2g} of the largest when the model is compiled again. "
            "The model draws random numbers itself, and each program freezes its own: switch off dropout and the like, "
            "or use attack.ExpectationOverTransformation(network, num_samples), which gives the network a key."
        )


def _batch_dependent(answers: ModelAnswers) -> Iterator[str]:
    """Compare the logits in two batches."""
    logits, again, apart = answers.logits, answers.logits_again, answers.logits_apart
    if apart is None or again is None or _relative_change(logits, again) > MAX_DIFFERENCE:
        return
    if (change := _relative_change(logits[len(logits) // 2 :], apart)) > MAX_DIFFERENCE:
        yield (
            f"An image's logits change by {change:.2g} of the largest with the other images of its batch, so images "
            "are not attacked independently: put the model, above all its batch normalization, in inference mode."
        )


def _saturated(answers: ModelAnswers) -> Iterator[str]:
    """Find images whose probability rounds to 1, where cross-entropy has no gradient in the label's logit."""
    logits = answers.logits[answers.correct].astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1) - 1  # of all other classes
    part = np.sum(odds < CERTAIN) / len(answers.labels)
    if part > MAX_SATURATED:
        yield (
            f"For {part:.0%} of the first images float32 rounds the label's probability to 1. The gradient of the "
            "cross-entropy is incomplete or zero there, so attacks that follow it are weak: use loss=attack.margin or "
            "loss=attack.dlr."
        )


def _zero_gradients(answers: ModelAnswers) -> Iterator[str]:
    """Find images where the network stops the gradient of the margin, which itself never saturates."""
    part = np.mean(answers.finite & (answers.slope == 0))
    if part > MAX_FLAT:
        yield (
            f"The gradient of the margin is exactly zero for {part:.0%} of the first images, so attacks by gradient "
            "find no direction there: look for rounding, thresholds or dead units in the model, and add an attack "
            "without gradients."
        )


def _nonfinite_gradients(answers: ModelAnswers) -> Iterator[str]:
    """Find images at which the gradient of the margin is NaN or infinite although the logits are finite."""
    part = np.mean(answers.finite & ~np.isfinite(answers.slope))
    if part > 0:
        yield (
            f"The gradient of the margin is NaN or infinite for {part:.0%} of the first images, though their logits "
            "are finite, and attacks by gradient leave out what is NaN: find the operation with diffprog.diagnose ("
            "often a root or power of 0, or a division by a deviation of 0), and add an attack without gradients."
        )


def _nonfinite_nearby(answers: ModelAnswers) -> Iterator[str]:
    """Find models that answer NaN to images that are not quite those of the data set."""
    is_lost = answers.finite & ~_are_finite(answers.logits_near)
    if is_lost.any():
        yield (
            f"Logits are NaN or infinite for {is_lost.mean():.0%} of the first images after a random change within the "
            "budget. An attack cannot count such an answer as a success, so images look robust that are not: mend the "
            "model, so that it answers every image within the bounds."
        )


def _few_classes(answers: ModelAnswers) -> Iterator[str]:
    """Find models with too few classes for AutoAttack's targeted loss."""
    classes = answers.logits.shape[1]
    if classes < 4:
        yield (
            f"The model has {classes} classes, and AutoAttack's targeted ratio of logits is defined for 4 or more, so "
            "another one stands in: compare accuracies with other implementations of AutoAttack with care."
        )


def _are_finite(logits: np.ndarray) -> np.ndarray:
    return np.isfinite(logits.reshape(len(logits), -1)).all(axis=1)


def _relative_change(logits: np.ndarray, others: np.ndarray) -> float:
    """Compute the largest difference, relative to the largest logit."""
    finite = np.isfinite(logits) & np.isfinite(others)
    if not finite.any():
        return 0.0
    return float(np.abs(logits - others)[finite].max() / max(np.abs(logits[finite]).max(), 1e-30))


# ---------------------------------------------------------------- the numbers

MAX_SURPASSED = 0.002  # of accuracy: what AutoAttack warns of, too
MAX_LATE = 0.05  # of the successes
MAX_RISE = 0.01  # of accuracy
MAX_UNDONE = 0.05  # of what the search found


def check_results(evaluation: Evaluation) -> list[RobustnessWarning]:
    """List what the numbers of an evaluation warn of."""
    checks = {
        "not-finite": _nonfinite,
        "no-gradient": _no_gradient,
        "black-box": _black_box,
        "few-steps": _few_steps,
        "more-steps": _more_steps,
        "rising": _rising,
        "exceeded": _exceeded,
        "invalid": _invalid,
        "undone": _undone,
    }
    return [RobustnessWarning(code, message) for code, check in checks.items() for message in check(evaluation)]


def _nonfinite(evaluation: Evaluation) -> Iterator[str]:
    """Count the images whose logits are not finite."""
    clean = int((evaluation.clean_predictions < 0).sum())
    counts = {name: int(record.nonfinite.any(axis=0).sum()) - clean for name, record in evaluation.records.items()}
    name = max(counts, key=lambda name: counts[name])
    if clean or counts[name]:
        yield (
            f"Logits are NaN or infinite for {clean} images as they are, and for up to {counts[name]} more on the way "
            f"of {name}. These images count as neither robust nor broken: remove the overflow in the model."
        )


def _no_gradient(evaluation: Evaluation) -> Iterator[str]:
    """Find failures of attacks that no gradient led."""
    for name, record in evaluation.records.items():
        if count := int(record.no_gradient.any(axis=0).sum()):
            yield (
                f"No gradient led {name} for {count} of {len(evaluation.labels)} images: it was 0 or NaN wherever the "
                "search asked, or one by decisions alone found no point to start from, and that they stand says "
                "nothing. Look for rounding, thresholds or stop_gradient in the model with diffprog.diagnose, and add "
                "an attack without gradients."
            )


def _black_box(evaluation: Evaluation) -> Iterator[str]:
    """Compare attacks with and without gradients: those with gradients should do no worse."""
    blind = [name for name, record in evaluation.records.items() if not record.backward_passes.any()]
    seeing = [name for name in evaluation.records if name not in blind]
    if not seeing:
        return
    best = evaluation.robust_accuracy(seeing)
    for name in blind:
        lead = best - evaluation.accuracy(name)
        budget = int(np.argmax(lead))
        if lead[budget] > MAX_SURPASSED:
            yield (
                f"{name}, which uses no gradients, leaves {evaluation.accuracy(name)[budget]:.1%} at budget "
                f"{evaluation.epsilons[budget]:.4g}, and all attacks by gradient {best[budget]:.1%}. Gradients of this "
                "model mislead: look for what masks them, and trust no larger number."
            )


def _few_steps(evaluation: Evaluation) -> Iterator[str]:
    """Find searches that still succeed at their end, or that do better with more steps."""
    for name, record in _within_budgets(evaluation):
        steps = evaluation.settings["attacks"][name]["arguments"].get("max_steps")
        if not isinstance(steps, int) or steps < 10:
            continue
        successes = record.success & (record.first_success >= 0)
        late = successes & (record.first_success >= 0.9 * steps)
        if late.sum() > max(1, MAX_LATE * successes.sum()):
            yield (
                f"{late.sum()} of {successes.sum()} successes of {name} came in the last tenth of its {steps} steps, "
                "so its search was not finished: give it more steps."
            )
    for less, more, gain, steps in _longer_searches(evaluation):
        best = int(np.argmax(gain))
        if gain[best] > 2 * MAX_RISE:
            yield (
                f"{more} leaves {gain[best] * 100:.1f} points less than {less} at budget "
                f"{evaluation.epsilons[best]:.4g}. {steps[less]} steps are too few, and {steps[more]} may be: give "
                "both more until the difference is gone."
            )


def _more_steps(evaluation: Evaluation) -> Iterator[str]:
    """Find searches that do worse with more steps."""
    for less, more, gain, _ in _longer_searches(evaluation):
        worst = int(np.argmin(gain))
        if gain[worst] < -MAX_SURPASSED:
            yield (
                f"{more} leaves {-gain[worst] * 100:.1f} points more than {less} at budget "
                f"{evaluation.epsilons[worst]:.4g}, although it takes more steps. Gradients are noisy: average them "
                "with attack.ExpectationOverTransformation, or add restarts."
            )


def _longer_searches(evaluation: Evaluation) -> Iterator[tuple[str, str, np.ndarray, dict[str, Any]]]:
    """Pair the runs of one attack that differ in nothing but their steps: names, the accuracy gained, all steps."""
    attacks = evaluation.settings["attacks"]
    others = lambda name: {**attacks[name], "arguments": {**attacks[name]["arguments"], "max_steps": None}}
    steps = {name: attacks[name]["arguments"].get("max_steps") for name in attacks}
    for less, more in permutations(attacks, 2):
        if isinstance(steps[less], int) and others(less) == others(more) and steps[less] < steps[more]:
            yield less, more, evaluation.accuracy(less) - evaluation.accuracy(more), steps


def _rising(evaluation: Evaluation) -> Iterator[str]:
    """Find searches that alone, without the successes of smaller budgets, do worse at a larger budget."""
    for name, record in _within_budgets(evaluation):
        if evaluation.settings["attacks"][name]["arguments"].get("every_budget") is False:
            continue  # larger budgets were not searched where a smaller one had decided
        broken = (record.success & ~record.from_smaller_budget).mean(axis=1)
        drop = np.diff(broken)
        if len(drop) and -drop.min() > MAX_RISE:
            worst = int(np.argmin(drop))
            small, large = (f"{evaluation.epsilons[budget]:.4g}" for budget in (worst, worst + 1))
            yield (
                f"{name} alone breaks {broken[worst + 1]:.1%} of the images at budget {large}, and "
                f"{broken[worst]:.1%} at the smaller {small}, although the larger one allows all that the smaller "
                "does. Its search is too weak for large budgets: give it more or shorter steps, or restarts."
            )


def _exceeded(evaluation: Evaluation) -> Iterator[str]:
    """Find perturbations that the evaluation measured to be larger than their budget."""
    for name, record in _within_budgets(evaluation):
        if record.exceeded.any():
            yield (
                f"{record.exceeded.sum()} successes of {name} are larger than their budget in {evaluation.norm} and do "
                "not count: correct the attack, or evaluate it in its own norm."
            )


def _invalid(evaluation: Evaluation) -> Iterator[str]:
    """Find returned images that are no images."""
    for name, record in evaluation.records.items():
        if record.invalid.any():
            yield (
                f"{record.invalid.sum()} images that {name} returned are not finite or leave the bounds "
                f"{tuple(evaluation.bounds)}, and do not count as successes: correct the attack, or clip what it "
                "returns."
            )


def _undone(evaluation: Evaluation) -> Iterator[str]:
    """Find successes that were none when the returned image was judged again, on fresh draws."""
    for name, record in evaluation.records.items():
        seen = (record.first_success >= 0) & ~record.from_smaller_budget & ~record.exceeded & ~record.invalid
        lost = int(np.sum(seen & ~record.success & ~record.nonfinite))
        if lost > max(1, MAX_UNDONE * seen.sum()):
            yield (
                f"{lost} of {seen.sum()} successes of {name} were none when the evaluation asked the model again, and "
                "do not count. In a model that draws random numbers, draws decide on the smallest perturbations: "
                "require a lead, with functools.partial(attack, confidence=1.0), or give "
                "attack.ExpectationOverTransformation a larger num_samples. Otherwise the attack judged by another "
                "model or criterion."
            )


def _within_budgets(evaluation: Evaluation) -> list[tuple[str, AttackRecord]]:
    """List the attacks that search within budgets that they are given."""
    return [
        (name, record)
        for name, record in evaluation.records.items()
        if evaluation.settings["attacks"][name]["search"] == "within budgets"
    ]
