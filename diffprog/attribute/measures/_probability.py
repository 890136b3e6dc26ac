"""A class's probability as what is measured, in place of its logit."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from diffprog._util.numbers import whole_number
from diffprog.models import Model


def probabilities(model: Callable[..., Any], score: Any) -> tuple[Callable[..., Any], Any]:
    """Make a function of softmax's probabilities of a model, and the same class as its score.

    Args:
      model: of logits (n, classes).
      score: a class, a label of a `Model`, or one class for each example.

    Raises:
      ValueError: the score is no class.
    """
    if isinstance(score, str) and isinstance(model, Model):
        score = model.label_index(score)
    is_class = whole_number(score) is not None if np.ndim(score) == 0 else np.asarray(score).dtype.kind in "iu"
    if isinstance(score, str) or callable(score) or not is_class:
        raise ValueError(
            f"a probability is of a class; found score={score!r:.60}: give a class, or is_probability=False"
        )
    if isinstance(model, Model):
        return lambda images: jax.nn.softmax(model.apply(model.parameters, images), axis=-1), score
    return lambda inputs: jax.nn.softmax(model(inputs), axis=-1), score
