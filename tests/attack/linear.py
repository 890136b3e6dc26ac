"""Linear classifiers, whose smallest perturbations are known in every norm, also where the box is in the way."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np


class Linear(NamedTuple):
    """logits = images @ weights; where element 0 is above 1/2 they are (1, 0, ...) whatever the rest: a flat place.

    Element 0 has no weight besides.
    """

    weights: np.ndarray  # float32 [size, classes]

    def __call__(self, images):
        logits = images @ jnp.asarray(self.weights)
        return jnp.where(images[:, :1] > 0.5, jnp.zeros_like(logits).at[:, 0].set(1), logits)

    def __hash__(self):
        return id(self.weights)

    def __eq__(self, other):
        return self is other


def problem(classes, size=25, seed=0):
    """A model, images and labels that it gets right: five images well inside the box, five whose pixels are near or at
    its bounds, and one in the flat place."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(size, classes)).astype(np.float32)
    weights[0] = 0
    inside = rng.uniform(0.35, 0.65, size=(5, size))
    tight = np.clip(rng.uniform(-0.3, 1.3, size=(6, size)), 0, 1)  # three eighths at a bound
    images = np.concatenate([inside, tight]).astype(np.float32)
    images[:, 0] = np.arange(11) == 10
    model = Linear(weights)
    return model, images, np.asarray(model(images)).argmax(axis=1)


def smallest(model, images, labels, reached, norm, lead=0.0):
    """float64 [n]: the smallest size in the norm of this name of a change after which the logit of class `reached` is
    that of the label plus `lead`; infinite where the box has no such point."""
    weights, images = model.weights.astype(np.float64), images.astype(np.float64)
    sizes = []
    for image, label, other in zip(images, labels, reached, strict=True):
        slope = weights[:, other] - weights[:, label]
        sizes.append(CROSSINGS[norm](slope, lead - image @ slope, image))
    return np.array(sizes)


def nearest(model, images, labels, norm):
    """The smallest of all changes of class."""
    classes = model.weights.shape[1]
    each = [smallest(model, images, labels, np.full(len(labels), other), norm) for other in range(classes)]
    return np.min(np.where(np.arange(classes)[:, None] == labels, np.inf, each), axis=0)


def room(slope, image):
    """How far each element can go along the slope in [0, 1]."""
    return np.where(slope > 0, 1 - image, image)


def bisected(gain, gap):
    """The least t with gain(t) >= gap; infinite if there is none."""
    low, high = 0.0, 1e9
    if gain(high) < gap:
        return np.inf
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if gain(middle) >= gap else (middle, high)
    return high


def linf(slope, gap, image):
    return bisected(lambda t: np.abs(slope) @ np.minimum(t, room(slope, image)), gap)


def l2(slope, gap, image):
    def way(t):
        return np.minimum(t * np.abs(slope), room(slope, image))

    return np.linalg.norm(way(bisected(lambda t: np.abs(slope) @ way(t), gap)))


def l1(slope, gap, image):
    """The steepest elements first, each as far as it can go."""
    order = np.argsort(-np.abs(slope))
    gains = np.cumsum((np.abs(slope) * room(slope, image))[order])
    count = np.searchsorted(gains, gap)
    if count == len(gains) or gap <= 0:
        return np.inf if gap > 0 else 0.0
    before = gains[count - 1] if count else 0.0
    return room(slope, image)[order][:count].sum() + (gap - before) / np.abs(slope)[order[count]]


def l0(slope, gap, image):
    """The elements first that can gain most."""
    gains = np.cumsum(np.sort(np.abs(slope) * room(slope, image))[::-1])
    count = np.searchsorted(gains, gap)
    return np.inf if count == len(gains) else count + 1.0


CROSSINGS = {"linf": linf, "l2": l2, "l1": l1, "l0": l0}
