"""A model is asked a few questions about the first batch, before it is attacked: see `model_checks`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack._engine.loop import Loop
from diffprog.attack._engine.method import Example, ExpectationOverTransformation, Oracle
from diffprog.attack._engine.queries import by_gradient
from diffprog.attack._losses import label_margin


class Probe(NamedTuple):
    """The answers, in NumPy arrays with one row per image. None for what makes no sense for a network that draws."""

    labels: np.ndarray
    logits: np.ndarray  # [n, classes]
    again: np.ndarray | None  # the same question to the model compiled anew
    alone: np.ndarray | None  # logits of the last half of the images, in another batch; None of a single image
    slope: np.ndarray  # largest element of the gradient of the margin

    @property
    def known(self):
        return np.isfinite(self.logits).all(axis=1)

    @property
    def right(self):
        return self.known & (self.logits.argmax(axis=1) == self.labels)


class _Point(NamedTuple):
    point: jax.Array


def probe(loop: Loop, oracle: Oracle, images, labels, keys, impl, bounds) -> Probe:
    """keys: their bits [n, ...], of the generator `impl`."""
    logits = loop.logits(images, keys)
    again = alone = None
    if not isinstance(oracle.model, ExpectationOverTransformation):
        again = np.asarray(jax.jit(lambda points: oracle.model(points))(jnp.asarray(images)))
        half = len(images) // 2
        alone = loop.logits(images[half:][::-1], keys[half:])[::-1] if half else None

    @jax.jit
    def look(example):
        example = example._replace(key=jax.random.wrap_key_data(example.key, impl=impl))
        return by_gradient(oracle, label_margin, _Point(example.image), example, None, example.key).gradient

    low, high = (np.full_like(images, bound) for bound in bounds)
    labels = np.asarray(labels, np.int32)
    budget = np.full(len(images), np.inf, np.float32)
    gradient = look(Example(images, labels, labels, budget, low, high, keys))
    slope = np.abs(np.asarray(gradient)).reshape(len(images), -1).max(axis=1)
    return Probe(labels, logits, again, alone, slope)
