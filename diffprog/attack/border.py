"""What may enter an attack, checked once. Each message says what was found, what was expected and what to do."""

import jax
import numpy as np

from diffprog.attack.norms import Norm


def checked_images(images, bounds=(0.0, 1.0)):
    """Images as a float32 NumPy array [n, ...] within the bounds."""
    images = np.asarray(images)
    low, high = checked_bounds(bounds)
    if not jax.numpy.issubdtype(images.dtype, np.floating):
        raise ValueError(f"images must be float32 in [{low:g}, {high:g}]; found {images.dtype}: "
                         "divide 8-bit images by 255")
    if images.ndim < 2 or images.size == 0:
        raise ValueError(f"images must have a leading batch axis; found shape {images.shape}: "
                         "add one with images[None]")
    if not np.all((images >= low) & (images <= high)):  # also refuses NaN
        raise ValueError(f"images must be in [{low:g}, {high:g}]; found {images.min():.4g} .. {images.max():.4g}: "
                         "are they already normalised?")
    return np.clip(images.astype(np.float32), np.float32(low), np.float32(high))


def checked_pictures(images):
    """Images that have a height, a width and channels."""
    if np.ndim(images) != 4:
        raise ValueError("images must have shape (n, height, width, channels) for this attack; "
                         f"found {np.shape(images)}: reshape them, with an axis of size 1 for grey")


def checked_bounds(bounds):
    low, high = bounds
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"bounds must be (lowest, highest) value of a pixel; found {bounds!r}: try (0, 1)")
    return float(low), float(high)


def checked_box(images, mask, bounds):
    """The lowest and the highest value of every element: the bounds, and the image itself where it must not change."""
    low, high = (np.full_like(images, bound) for bound in checked_bounds(bounds))
    if mask is None:
        return low, high
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(f"mask must be of booleans, true where a change is allowed; found {mask.dtype}: "
                         "compare it with a threshold")
    try:
        mask = np.broadcast_to(mask, images.shape)
    except ValueError:
        raise ValueError(f"mask must have the shape of the images, {images.shape}, or of one, or sizes of 1; "
                         f"found {mask.shape}: add axes with mask[..., None]") from None
    return np.where(mask, low, images), np.where(mask, high, images)


def checked_labels(labels, count):
    """Labels as an int32 NumPy array [count]."""
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integer class indices; found {labels.dtype}: convert them with astype(int)")
    if labels.shape != (count,):
        raise ValueError(f"labels must have shape ({count},), one class index per image; found {labels.shape}: "
                         "take argmax of one-hot rows")
    return labels.astype(np.int32)


def checked_answer(answer):
    """What a model returns, while it is traced: one array."""
    if not hasattr(answer, "shape"):
        raise ValueError(f"model must return logits alone; found a {type(answer).__name__}: "
                         "leave out what it returns besides, such as new statistics of batches")
    return answer


def checked_logits(logits, labels):
    """What the model makes of the images themselves: logits [n, classes] with every label among the classes."""
    logits = np.asarray(logits)
    if logits.ndim != 2 or len(logits) != len(labels) or logits.shape[1] < 2:
        raise ValueError(f"model must return logits of shape ({len(labels)}, classes); found {logits.shape}: "
                         "keep the batch axis and one column per class")
    finite = np.isfinite(logits).all(axis=1)
    if not finite.any():
        raise ValueError(f"model must return finite logits; found NaN or infinity for each of {len(logits)} images: "
                         "mend the model before attacking it")
    known = logits[finite]
    if np.all(known >= 0) and np.allclose(known.sum(axis=1), 1, atol=1e-5):
        raise ValueError("model returns probabilities, which sum to 1; an attack needs logits: leave out the softmax")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels must be in 0 .. {logits.shape[1] - 1}, the model's classes; "
                         f"found {labels.min()} .. {labels.max()}: check which numbering they use")
    return logits


def checked_numbers(numbers, count):
    """The images' numbers in their data set."""
    numbers = np.arange(count) if numbers is None else np.asarray(numbers)
    if numbers.shape != (count,) or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"numbers must be integers of shape ({count},), one per image; found {numbers.dtype} "
                         f"{numbers.shape}: leave them out for 0 .. {count - 1}")
    return numbers.astype(np.uint32)


def checked_key(key):
    """The key; a fixed one for an attack that draws nothing."""
    if key is None:
        return jax.random.key(0)
    if not jax.dtypes.issubdtype(getattr(key, "dtype", None), jax.dtypes.prng_key):
        raise ValueError(f"key must be a JAX random key; found {key!s:.60}: make one with jax.random.key(0)")
    return key


def checked_budgets(epsilon, count):
    """Budgets [K, count] in float64, and whether several were asked for at once."""
    try:
        budgets = np.asarray(epsilon, np.float64)
    except (TypeError, ValueError):
        budgets = np.array(np.nan)
    if not np.all(budgets > 0):
        raise ValueError(f"epsilon must be a positive number; found {epsilon!s:.60}: "
                         "images are in [0, 1], so try 8 / 255")
    several = budgets.ndim == 2
    if budgets.shape not in ((), (count,)) and not (several and len(budgets) and budgets.shape[1] in (1, count)):
        raise ValueError(f"epsilon must be a number, one per image ({count},), or several budgets (K, 1) or "
                         f"(K, {count}); found shape {budgets.shape}: add an axis with epsilon[:, None]")
    if several and np.any(np.diff(budgets, axis=0) <= 0):
        raise ValueError(f"budgets must increase; found {budgets[:, 0].tolist()} for image 0: sort them")
    return np.broadcast_to(budgets, (len(budgets) if several else 1, count)), several


def checked_norm(norm, allowed):
    """One of the norms that an attack is defined for."""
    if not isinstance(norm, Norm) or norm not in allowed:
        found = norm.name if isinstance(norm, Norm) else repr(norm)
        raise ValueError(f"norm must be one of {', '.join(each.name for each in allowed)}, Norms of diffprog.attack; "
                         f"found {found}: choose one or another attack")
    return norm


def checked_choice(choice, allowed, name):
    """One of the words that an argument knows."""
    if choice not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; found {choice!r}: choose one of them")


def checked_counts(**counts):
    """Numbers of steps and the like: at least 1."""
    for name, count in counts.items():
        if not (isinstance(count, int | np.integer) and count >= 1):
            raise ValueError(f"{name} must be a whole number of at least 1; found {count!r}: give one, or leave it out")


def checked_positive(**numbers):
    """Lengths and weights: finite and above zero."""
    for name, number in numbers.items():
        if not (np.isscalar(number) and np.isfinite(number) and number > 0):
            raise ValueError(f"{name} must be a positive number; found {number!r}: leave it out for the default")


def checked_not_negative(**numbers):
    """Numbers that may be zero."""
    for name, number in numbers.items():
        if not (np.isscalar(number) and np.isfinite(number) and number >= 0):
            raise ValueError(f"{name} must be a number of at least 0; found {number!r}: leave it out for the default")


def float32_at_most(epsilon):
    """The largest float32 that is not above `epsilon`: float32(8 / 255) itself is."""
    nearest = np.asarray(epsilon, np.float64).astype(np.float32)
    return np.where(nearest.astype(np.float64) <= epsilon, nearest, np.nextafter(nearest, np.float32(0)))
