"""Checks of the functions that a user gives, and of what they answer: the model, the loss and the criterion."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from diffprog._util.modules import is_apply_of_module
from diffprog._util.user_functions import call_traced
from diffprog.attack._losses import ONE_CLASS_LOSSES, TWO_CLASS_LOSSES


def check_function(name: str, function: Any, inputs: Sequence[str], remedy: str) -> Callable[..., Any]:
    """Require a function that takes inputs of these names, and return it."""
    requirement = f"{name} must be a function of {' and '.join(inputs)}"
    if not callable(function):
        raise ValueError(f"{requirement}; found a {type(function).__name__}: {remedy}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # of a built-in function
        return function
    try:
        signature.bind(*inputs)
    except TypeError:
        raise ValueError(f"{requirement}; found parameters {', '.join(signature.parameters):.60}: {remedy}") from None
    return function


def _check_bound_apply(model: Any) -> None:
    if is_apply_of_module(model):
        raise ValueError(
            "model must be a function of images; found the method apply of a module, which takes its variables first: "
            "give lambda images: module.apply(variables, images)"
        )


def _check_is_traceable(model: Any) -> None:
    if isinstance(model, jax.stages.Compiled | jax.stages.Lowered):
        raise ValueError(
            f"model must be a function that JAX can differentiate; found a {type(model).__name__} program: give the "
            "function that it was compiled from, or jax.jit of it"
        )


def call_model(model: Callable[..., Any], points: jax.Array) -> jax.Array:
    """Call a model, and require one array."""
    _check_is_traceable(model)
    _check_bound_apply(model)
    check_function(
        "model",
        model,
        ["images"],
        "try lambda images: network.apply(variables, images), or attack.ExpectationOverTransformation(network) "
        "if it takes a key, too",
    )
    return check_answer(call_traced("model", model, points))


def call_random_model(model: Callable[..., Any], points: jax.Array, key: jax.Array) -> jax.Array:
    """Call a model that draws random numbers, and require one array."""
    _check_is_traceable(model)
    check_function(
        "model", model, ["images", "key"], "a model without a key needs no attack.ExpectationOverTransformation"
    )
    return check_answer(call_traced("model", model, points, key))


def call_loss(loss: Callable[..., Any], logits: jax.Array, labels: jax.Array, *target_classes: jax.Array) -> jax.Array:
    """Call a loss, and require one number per image."""
    inputs = ["logits", "labels", "target_classes"][: 2 + len(target_classes)]
    if getattr(loss, "func", loss) in (*ONE_CLASS_LOSSES, *TWO_CLASS_LOSSES):  # ours, under our own promotion
        return loss(logits, labels, *target_classes)
    check_function("loss", loss, inputs, "try attack.cross_entropy, margin or dlr")
    values = call_traced("loss", loss, logits, labels, *target_classes)
    if np.shape(values) != (len(logits),):
        raise ValueError(
            f"loss must return one number per image, shape (n,); found shape {np.shape(values)}: "
            "leave out the mean or sum over images"
        )
    return values


def call_criterion(criterion: Callable[..., Any], logits: Any, labels: Any) -> Any:
    """Call a criterion, and require one bool per image."""
    check_function("criterion", criterion, ["logits", "labels"], "try lambda logits, labels: logits.argmax(-1) == 3")
    is_adversarial = call_traced("criterion", criterion, logits, labels)
    kind = getattr(is_adversarial, "dtype", np.dtype(object))
    if np.shape(is_adversarial) != (len(logits),) or kind.kind != "b":
        raise ValueError(
            f"criterion must return one bool per image, shape (n,); found {kind} of shape "
            f"{np.shape(is_adversarial)}: compare along the last axis"
        )
    return is_adversarial


def check_answer(answer: Any) -> jax.Array:
    """Require that a model returns one array, and return it."""
    if not hasattr(answer, "shape"):
        raise ValueError(
            f"model must return logits alone; found a {type(answer).__name__}: "
            "leave out what it returns besides, such as new statistics of batches"
        )
    return answer


def check_logits(logits: Any, labels: np.ndarray, are_free: bool = False) -> np.ndarray:
    """Return the logits (n, classes) of the images themselves; every label must be one of the classes.

    What a loss and a criterion of the user's own read (`are_free`) may be any array with a row per image.
    """
    logits = np.asarray(logits)
    if are_free:
        if logits.ndim < 1 or len(logits) != len(labels):
            raise ValueError(
                f"model must return an array with one row for each of {len(labels)} images; found shape "
                f"{logits.shape}: keep the batch axis"
            )
        return logits
    if logits.ndim != 2 or len(logits) != len(labels) or logits.shape[1] < 2:
        raise ValueError(
            f"model must return logits of shape ({len(labels)}, classes); found {logits.shape}: "
            "keep the batch axis and one column per class"
        )
    if not jax.numpy.issubdtype(logits.dtype, np.floating):
        raise ValueError(
            f"model must return logits of real numbers; found {logits.dtype}: return what its last layer "
            "computes, not the class"
        )
    finite = np.isfinite(logits).all(axis=1)
    if not finite.any():
        raise ValueError(
            f"model must return finite logits; found NaN or infinity for each of {len(logits)} images: "
            "mend the model before attacking it"
        )
    known, exact = logits[finite].astype(np.float64), max(1e-5, float(jax.numpy.finfo(logits.dtype).eps))
    if np.all(known >= 0) and np.allclose(known.sum(axis=1), 1, atol=exact):
        raise ValueError("model returns probabilities, which sum to 1; an attack needs logits: leave out the softmax")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"labels must be in 0 .. {logits.shape[1] - 1}, the model's classes; "
            f"found {labels.min()} .. {labels.max()}: check which numbering they use"
        )
    return logits
