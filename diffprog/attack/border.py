"""What may enter an attack, checked once. Each message says what was found, what was expected and what to do."""

import numpy as np

from diffprog.attack.norms import Norm


def checked_images(images):
    """Images as a float32 NumPy array [n, ...] in [0, 1]."""
    images = np.asarray(images)
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"images must be float32 in [0, 1]; found {images.dtype}: divide 8-bit images by 255")
    if images.ndim < 2 or images.size == 0:
        raise ValueError(f"images must have a leading batch axis; found shape {images.shape}: "
                         "add one with images[None]")
    if not np.all((images >= 0) & (images <= 1)):  # also refuses NaN
        raise ValueError(f"images must be in [0, 1]; found {images.min():.4g} .. {images.max():.4g}: "
                         "are they already normalised?")
    return images.astype(np.float32)


def checked_labels(labels, count):
    """Labels as an int32 NumPy array [count]."""
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integer class indices; found {labels.dtype}: convert them with astype(int)")
    if labels.shape != (count,):
        raise ValueError(f"labels must have shape ({count},), one class index per image; found {labels.shape}: "
                         "take argmax of one-hot rows")
    return labels.astype(np.int32)


def checked_logits(logits, labels):
    """What the model makes of the images themselves: finite logits [n, classes] with every label among the classes."""
    logits = np.asarray(logits)
    if logits.ndim != 2 or len(logits) != len(labels) or logits.shape[1] < 2:
        raise ValueError(f"model must return logits of shape ({len(labels)}, classes); found {logits.shape}: "
                         "keep the batch axis and one column per class")
    if not np.all(np.isfinite(logits)):
        image = np.argmin(np.isfinite(logits).all(axis=1))
        raise ValueError(f"model must return finite logits; found NaN or infinity for image {image}: "
                         "mend the model before attacking it")
    if np.all(logits >= 0) and np.allclose(logits.sum(axis=1), 1, atol=1e-5):
        raise ValueError("model returns probabilities, which sum to 1; an attack needs logits: leave out the softmax")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels must be in 0 .. {logits.shape[1] - 1}, the model's classes; "
                         f"found {labels.min()} .. {labels.max()}: check which numbering they use")
    return logits


def checked_targets(labels, predictions):
    """Targets that differ from what the model says already."""
    there = np.flatnonzero(labels == predictions)
    if there.size:
        raise ValueError(f"image {there[0]} is classified as its target, class {labels[there[0]]}, already: "
                         "choose another target or leave the image out")


def checked_search(norm, epsilon, steps, step_size):
    """The geometry and the lengths of a search."""
    if not isinstance(norm, Norm):
        raise ValueError(f"norm must be a Norm such as linf or l2; found {norm!r}: import it from diffprog.attack")
    if not (np.isscalar(epsilon) and np.isfinite(epsilon) and epsilon > 0):
        raise ValueError(f"epsilon must be a positive number; found {epsilon!r}: "
                         "images are in [0, 1], so try 8 / 255")
    if steps < 1:
        raise ValueError(f"steps must be at least 1; found {steps}: one step with no random start is fgsm")
    if not (np.isfinite(step_size) and step_size > 0):
        raise ValueError(f"step_size must be positive; found {step_size!r}: leave it out for epsilon / 4")
