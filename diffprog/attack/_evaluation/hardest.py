"""The images that the smallest perturbations break: found while batches pass, kept beside their results."""

from typing import NamedTuple

import numpy as np


class Hard(NamedTuple):
    """An image that the model classifies, and the smallest perturbation of it that was found to break it."""

    number: int  # of the image in its data set
    attack: str
    label: int
    prediction: int  # predicted class of the perturbed image
    size: float  # of the perturbation, in the evaluation's norm
    original: np.ndarray  # float32
    adversarial: np.ndarray


def best_search(outcome):
    """int [n]: which search found the smallest success; without one, the last."""
    size = np.where(outcome.success, outcome.size, np.inf)
    none = ~outcome.success.any(axis=0)
    return np.where(none, len(size) - 1, np.argmin(size, axis=0))


def candidates(outcome, numbers, labels, originals, images, limit, most) -> dict[str, np.ndarray]:
    """The hardest of a batch as arrays: at most `most`, whose sizes are below `limit`: the
    largest of as many images before them, which come first where sizes are equal.

    images: [n, ...], of `best_search`.
    """
    size = outcome.smallest
    order = np.lexsort((numbers, size))
    chosen = order[(size[order] > 0) & (size[order] < limit)][:most]
    after = outcome.predictions[best_search(outcome), np.arange(len(size))]
    return {
        "hard_number": numbers[chosen],
        "hard_label": labels[chosen],
        "hard_prediction": after[chosen],
        "hard_size": size[chosen],
        "hard_original": originals[chosen],
        "hard_adversarial": images[chosen],
    }


FIELDS = ("hard_number", "hard_label", "hard_prediction", "hard_size", "hard_original", "hard_adversarial")


def hardest(records, most) -> tuple[Hard, ...]:
    """The hardest images of all batches, each with the attack that came closest. records: (attack, arrays) pairs."""
    found = {}
    for attack, arrays in records:
        for number, label, after, size, original, adversarial in zip(*(arrays[name] for name in FIELDS), strict=True):
            if number not in found or size < found[number].size:
                found[number] = Hard(int(number), attack, int(label), int(after), float(size), original, adversarial)
    return tuple(sorted(found.values(), key=lambda hard: (hard.size, hard.number))[:most])
