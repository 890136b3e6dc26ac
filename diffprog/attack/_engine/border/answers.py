"""What a model, a loss and a criterion may be, and may answer: they are the user's, and asked while JAX traces them."""

import inspect

import jax
import numpy as np


def checked_function(name, function, inputs: list, remedy):
    """A function that can be called with so many inputs, whose names are for the sentence."""
    wanted = f"{name} must be a function of {' and '.join(inputs)}"
    if not callable(function):
        raise ValueError(f"{wanted}; found a {type(function).__name__}: {remedy}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # of a built-in function
        return function
    try:
        signature.bind(*inputs)
    except TypeError:
        raise ValueError(f"{wanted}; found parameters {', '.join(signature.parameters):.60}: {remedy}") from None
    return function


def traced(name, function, *inputs):
    """function(*inputs), where it is JAX that asks. An error of its own stays what it is, with a note."""
    try:
        return function(*inputs)
    except Exception as error:
        if not (isinstance(error, TypeError) and "racer" in f"{type(error).__name__} {error}"):
            error.add_note(f"{name} was asked about {inputs[0].dtype} {inputs[0].shape}, a batch at a time.")
            raise
        raise ValueError(
            f"{name} must compute with jax.numpy and not look at values; found {type(error).__name__} "
            "while it was traced: replace NumPy, torch and Python's if in it"
        ) from error


def logits_of(model, points):
    """What a model answers."""
    checked_function(
        "model",
        model,
        ["images"],
        "try lambda images: network.apply(variables, images), or attack.ExpectationOverTransformation(network) "
        "if it takes a key, too",
    )
    return checked_answer(traced("model", model, points))


def drawn_logits_of(network, points, key):
    """What a network that draws answers."""
    checked_function(
        "network", network, ["images", "key"], "a model without a key needs no attack.ExpectationOverTransformation"
    )
    return checked_answer(traced("network", network, points, key))


def values_of(loss, logits, labels, target_classes):
    """The values of a loss [n]."""
    values = traced("loss", loss, logits, labels, target_classes)
    if np.shape(values) != labels.shape:
        raise ValueError(
            f"loss must return one number per image, shape (n,); found shape {np.shape(values)}: "
            "leave out the mean or sum over images"
        )
    return values


def met(criterion, logits, labels):
    """Where a criterion is met, bool [n]."""
    checked_function("criterion", criterion, ["logits", "labels"], "try lambda logits, labels: logits.argmax(-1) == 3")
    found = traced("criterion", criterion, logits, labels)
    kind = getattr(found, "dtype", np.dtype(object))
    if np.shape(found) != (len(logits),) or kind.kind != "b":
        raise ValueError(
            f"criterion must return one bool per image, shape (n,); found {kind} of shape "
            f"{np.shape(found)}: compare along the last axis"
        )
    return found


def checked_answer(answer):
    """What a model returns, while it is traced: one array."""
    if not hasattr(answer, "shape"):
        raise ValueError(
            f"model must return logits alone; found a {type(answer).__name__}: "
            "leave out what it returns besides, such as new statistics of batches"
        )
    return answer


def checked_logits(logits, labels):
    """What the model makes of the images themselves: logits [n, classes] with every label among the classes."""
    logits = np.asarray(logits)
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
